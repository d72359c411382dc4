"""Full disks: which errors mean one, and how much room there is.

torch and safetensors write through code of their own, whose errors carry no error number; so what
they say is looked at, and where it says nothing, the disk.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

# EFBIG is a limit on the size of one file (ulimit -f): a quota of another kind
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_SAID = tuple(os.strerror(n).lower() for n in FULL) + tuple(f"os error {n})" for n in FULL)
_WRITERS = ("inline_container.cc", "pytorchstreamwriter", "iostream error", "file write failed", "error while serializing")
_LITTLE = 1 << 20


def is_full(error: BaseException | None) -> bool:
    """True for errors that mean that space or quota is used up."""
    return isinstance(error, OSError) and error.errno in FULL


def of_write(error: BaseException, where: Path) -> OSError | None:
    """A failed write as an OSError, from whatever library it comes; None when it is something else."""
    if isinstance(error, OSError) and error.errno is not None:
        return error
    text = str(error).lower()
    # torch.distributed.checkpoint wraps what its ranks met, a line each
    said = next((n for n, words in zip(FULL * 2, _SAID, strict=True) if words in text), None)
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]
    if said is not None:
        return OSError(said, os.strerror(said), line)
    if isinstance(error, OSError):
        return error
    if any(w in text for w in _WRITERS) or type(error).__name__ == "SafetensorError":
        number = _probe(where)
        return OSError(number, os.strerror(number), line)
    return None


def _probe(where: Path) -> int:
    """What writing here fails with now; EIO when it does not fail."""
    path = where / f".probe.{os.getpid()}"
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, bytes(_LITTLE))
            os.fsync(fd)
        finally:
            os.close(fd)
            os.unlink(path)
        # a short write is no error; the torn file has been the one that filled the disk
        return errno.ENOSPC if (room(where) or 0) < 2 * _LITTLE else errno.EIO
    except OSError as e:
        return e.errno or errno.EIO


def room(where: Path) -> int | None:
    """Bytes that may still be written here; None when the filesystem does not say."""
    try:
        s = os.statvfs(where)
    except OSError:
        return None
    return s.f_bavail * s.f_frsize


def lack(where: Path, need: int) -> str:
    """A sentence when there is less room than need; "" when there is enough, or nobody can say."""
    free = room(where)
    if free is None or free >= need:
        return ""
    return f"{_mib(need)} are needed and {_mib(free)} are free in {where}"


def _mib(n: int) -> str:
    return f"{n / (1 << 20):.1f} MiB"
