"""Checkpoints: a manifest makes one durable, and only a durable one may replace another.

transformers writes a checkpoint in place, file by file, without fsync; a crash leaves a
directory that looks finished. So after it has written, each rank flushes and hashes the
files that it wrote itself (on a network filesystem rank 0 may not see them yet), the lists
are gathered, and rank 0 flushes the directories, reads the fence, and writes the manifest
last. A directory without one does not count. What stays of them: keep.py.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import disk
from .gang import Gang
from .outcome import DiskFull, Superseded
from .rundir import LAYOUT, MANIFEST, RunDir, sync_file, sync_tree, timestamp, write_json

# Files that carry their rank in their names: random states, answers that are still learnt from, and shards of
# torch.distributed.checkpoint (FSDP).
_OF_RANK = re.compile(r"^(?:rng_state_(\d+)\.pth|rollouts_(\d+)\.pt|__(\d+)_\d+\.distcp)$")
# Files that only the same number of ranks can read: DeepSpeed's, and FSDP's state dicts by rank.
_BOUND = re.compile(r"zero_pp_rank_|_rank\d+\.(bin|pt)$|^rank\d+-of-\d+-")


def directory(run: RunDir, step: int) -> Path:
    """Where the checkpoint of a step lies."""
    return run.checkpoints / f"checkpoint-{step}"


def commit(
    run: RunDir,
    gang: Gang,
    step: int,
    began: float | None = None,
    asked: float | None = None,
    more: Mapping[str, Any] = {},
    failed: OSError | None = None,
) -> dict[str, Any]:
    """Make the checkpoint of this step durable; every rank calls it after writing. Rank 0 gets the manifest.

    By time.monotonic: began is when writing it began, asked when this rank learned of the stop that wants it.
    more goes into the manifest as it is; failed is why this rank could not even write.
    Raises on every rank alike: Superseded when a newer attempt holds the fence, DiskFull and OSError when
    any rank could not write, flush or read its files. What is torn then is removed where that is possible.
    """
    root = directory(run, step)
    error, files = failed, []
    if error is None:
        try:
            files = describe(root, own_files(root, gang.rank), gang.rank)
        except OSError as e:
            error = e
    brought = gang.gather((files, _words(error, gang.rank), disk.is_full(error), asked is not None))
    # only now, since a rank with little to write has waited here for the others
    ages = gang.gather(time.monotonic() - asked if asked is not None else 0.0) if any(b[3] for b in brought) else []
    gathered = time.monotonic()
    said = next((words for _, words, _, _ in brought if words), "")
    full, fenced = any(b[2] for b in brought), False
    manifest: dict[str, Any] = {}
    if not said and gang.rank == 0:
        manifest = _manifest(run, step, gang.world, [f for b in brought for f in b[0]]) | dict(more)
        try:
            sync_tree(root)
            now = time.monotonic()
            if began is not None:
                manifest["seconds"] = round(now - began, 3)
            if ages:
                manifest["signal_seconds"] = round(max(ages) + now - gathered, 3)
            run.check_fence()
            write_json(root / MANIFEST, manifest)
        except Superseded as e:
            said, fenced = str(e), True
        except OSError as e:
            said, full = _words(e, 0), disk.is_full(e)
    if said and not fenced and gang.rank == 0:
        discard(root)  # every rank has gathered: nobody writes into it any more
    said, full, fenced = gang.gather((said, full, fenced))[0]
    if fenced:
        raise Superseded(said)
    if said:
        message = f"checkpoint of step {step} could not be made durable: {said}"
        raise DiskFull(message) if full else OSError(message)
    return manifest


def _words(error: OSError | None, rank: int) -> str:
    return "" if error is None else f"rank {rank}: {error}"


def discard(root: Path) -> None:
    """Remove a checkpoint as far as that is possible, its manifest first: what is half removed must not look damaged."""
    try:
        (root / MANIFEST).unlink(missing_ok=True)
    except OSError:
        pass
    shutil.rmtree(root, ignore_errors=True)


def own_files(root: Path, rank: int) -> list[Path]:
    """The files that a rank wrote: rank r its random state and its shards, rank 0 everything else."""
    files = []
    for parent, _, names in os.walk(root):
        for name in names:
            match = _OF_RANK.match(name)
            owner = int(next(filter(None, match.groups()))) if match else 0
            if owner == rank and name != MANIFEST:
                files.append(Path(parent, name))
    return sorted(files)


def describe(root: Path, files: list[Path], rank: int) -> list[dict]:
    """Flush and hash files: their entries in a manifest."""
    entries = []
    for path in files:
        sync_file(path)
        digest, size = digest_of(path)
        entries.append({"path": path.relative_to(root).as_posix(), "size": size, "sha256": digest, "rank": rank})
    return entries


def digest_of(path: Path) -> tuple[str, int]:
    """SHA-256 and size of a file."""
    with open(path, "rb") as f:
        digest = hashlib.file_digest(f, "sha256") if hasattr(hashlib, "file_digest") else _digest(f)
        return digest.hexdigest(), f.tell()


def _digest(f):  # Python 3.10 has no hashlib.file_digest
    digest = hashlib.sha256()
    while block := f.read(1 << 20):
        digest.update(block)
    return digest


def _manifest(run: RunDir, step: int, world: int, files: list[dict]) -> dict[str, Any]:
    manifest = {
        "layout": LAYOUT,
        "run_id": run.run_id,
        "attempt": run.attempt,
        "step": step,
        "world_size": world,
        "saved_at": timestamp(),
        "files": sorted(files, key=lambda f: f["path"]),
    }
    if not any(_BOUND.search(Path(f["path"]).name) for f in files):
        manifest["any_world_size"] = True
    return manifest
