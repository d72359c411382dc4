"""The run directory as a rank sees it (docs/run-directory.md, layout 1).

An attempt writes only below its own directory. What must survive a crash is written as a
temporary file, fsynced, renamed, and its directory fsynced: a reader sees the old content,
the new, or nothing.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .outcome import BadInput, Superseded

LAYOUT = 1
MANIFEST = "forge_manifest.json"


@dataclass(frozen=True)
class RunDir:
    """Paths of one attempt, and its number: the fence that stops late writers."""

    run_id: str
    attempt: int
    config: Path
    checkpoints: Path
    output: Path
    work: Path  # the copy of the working directory that the run brought, if it did
    samples: Path
    metrics: Path
    heartbeat: Path
    status: Path
    stop: Path
    fence: Path
    resume_from: Path | None

    @classmethod
    def from_environment(cls, env: Mapping[str, str] = os.environ) -> RunDir:
        """Take the paths from FORGE_*; what is absent follows from the layout."""
        config = env.get("FORGE_CONFIG", "")
        if not config:
            raise BadInput("FORGE_CONFIG is not set: this program is started by forge (docs/run-contract.md)")
        attempt_dir = Path(env.get("FORGE_ATTEMPT_DIR") or Path(config).parent)
        number = env.get("FORGE_ATTEMPT", "1")
        if not number.isdecimal() or int(number) < 1:
            raise BadInput(f"FORGE_ATTEMPT is {number!r}: want a whole number from 1")
        run_dir = Path(env.get("FORGE_RUN_DIR") or attempt_dir.parent.parent)
        resume = env.get("FORGE_RESUME_FROM", "")

        def path(name: str, default: str) -> Path:
            return Path(env.get(name) or attempt_dir / default)

        return cls(
            run_id=env.get("FORGE_RUN_ID", run_dir.name),
            attempt=int(number),
            config=Path(config),
            checkpoints=path("FORGE_CHECKPOINT_DIR", "checkpoints"),
            output=path("FORGE_OUTPUT_DIR", "output"),
            work=attempt_dir / "work",
            samples=attempt_dir / "samples.jsonl",
            metrics=path("FORGE_METRICS", "metrics.jsonl"),
            heartbeat=path("FORGE_HEARTBEAT", "heartbeat"),
            status=path("FORGE_STATUS", "status.json"),
            stop=path("FORGE_STOP_FILE", "stop"),
            fence=Path(env.get("FORGE_FENCE_FILE") or run_dir / "fence"),
            resume_from=Path(resume) if resume else None,
        )

    def read_config(self) -> dict:
        """The resolved configuration (forge.RankConfig)."""
        try:
            data = json.loads(self.config.read_bytes())
        except OSError as e:
            raise BadInput(f"configuration {self.config}: {e.strerror}") from e
        except ValueError as e:
            raise BadInput(f"configuration {self.config} is not JSON: {e}") from e
        if not isinstance(data, dict):
            raise BadInput(f"configuration {self.config}: want a JSON object")
        return data

    def check_fence(self) -> None:
        """Raise Superseded when a newer attempt holds the fence."""
        highest = read_fence(self.fence)
        if highest > self.attempt:
            raise Superseded(f"attempt {highest} holds the fence; this is attempt {self.attempt}")

    def stop_signal(self) -> str:
        """What the stop file asks for: "checkpoint", "cancel", or "" while there is none.

        One that cannot be read for a moment (a network filesystem that does not answer) asks for nothing yet: it is
        looked at again, and an error here would end this rank alone, as the user's own failure.
        """
        try:
            data = self.stop.read_bytes()
        except OSError:
            return ""
        try:
            signal = json.loads(data).get("signal", "")
        except (ValueError, AttributeError):
            return "checkpoint"  # somebody wants a stop; the milder reading loses nothing
        return "cancel" if signal in ("cancel", "kill") else "checkpoint"

    def stop_age(self) -> float:
        """Seconds since the stop file was written, by the clock of its filesystem; 0 when nobody can say."""
        try:
            return max(0.0, time.time() - self.stop.stat().st_mtime)
        except OSError:
            return 0.0


def read_fence(path: Path) -> int:
    """Read the highest attempt allowed.

    A file that cannot be read is not permission to go on: a network filesystem that is gone
    for a moment is asked again, then the error is the answer.
    """
    for tries in range(3):
        try:
            return int(path.read_text())
        except FileNotFoundError as e:
            error: Exception = e
        except (OSError, ValueError) as e:
            error = e
        if tries < 2:
            time.sleep(0.2)
    raise OSError(f"fence {path} cannot be read: {error}")


def write_durably(path: Path, data: bytes, mode: int = 0o640) -> None:
    """Replace a file so that a reader, or a crash, sees the old content or the new."""
    tmp = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    fd = os.open(tmp, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(fd, "wb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        os.rename(tmp, path)
    except BaseException:
        tmp.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def write_json(path: Path, value: object) -> None:
    """Write JSON durably."""
    write_durably(path, json.dumps(value, ensure_ascii=False, sort_keys=True).encode() + b"\n")


def sync_file(path: Path) -> None:
    """Flush one file that somebody else wrote."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_tree(root: Path) -> None:
    """Flush every file and directory below root, leaves first, and the name of root itself."""
    for directory, _, files in os.walk(root, topdown=False):
        for name in files:
            sync_file(Path(directory, name))
        sync_directory(Path(directory))
    sync_directory(root.parent)


def timestamp(seconds: float | None = None) -> str:
    """RFC 3339 UTC with milliseconds."""
    t = time.time() if seconds is None else seconds
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(t)) + f".{int(t % 1 * 1000):03d}Z"
