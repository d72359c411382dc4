"""Checkpoints: a manifest makes one durable, and only a durable one may replace another.

transformers writes a checkpoint in place, file by file, without fsync; a crash leaves a
directory that looks finished. So after it has written, each rank flushes and hashes the
files that it wrote itself (on a network filesystem rank 0 may not see them yet), the lists
are gathered, and rank 0 flushes the directories, reads the fence, and writes the manifest
last. A directory without one does not count.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time
from pathlib import Path

from .gang import Gang
from .outcome import Superseded
from .rundir import LAYOUT, MANIFEST, RunDir, sync_directory, sync_file, sync_tree, timestamp, write_json

_RNG_OF_RANK = re.compile(r"^rng_state_(\d+)\.pth$")
_NAME = re.compile(r"^checkpoint-(\d+)$")


def directory(run: RunDir, step: int) -> Path:
    """Where the checkpoint of a step lies."""
    return run.checkpoints / f"checkpoint-{step}"


def commit(run: RunDir, gang: Gang, step: int, began: float | None = None) -> None:
    """Make the checkpoint of this step durable; every rank calls it after writing.

    began is when writing it began, by time.monotonic; with it the manifest says how long the whole save took.
    Raises on every rank alike: Superseded when a newer attempt holds the fence, OSError when
    any rank could not flush or read its files.
    """
    root = directory(run, step)
    try:
        mine: list[dict] | str = describe(root, own_files(root, gang.rank), gang.rank)
    except OSError as e:
        mine = f"rank {gang.rank}: {e}"
    lists = gang.gather(mine)
    said = next((m for m in lists if isinstance(m, str)), "")
    fenced = False
    if not said and gang.rank == 0:
        try:
            _write_manifest(run, root, step, gang.world, [f for files in lists for f in files], began)
        except Superseded as e:
            said, fenced = str(e), True
        except OSError as e:
            said = f"rank 0: {e}"
    said, fenced = gang.gather((said, fenced))[0]
    if fenced:
        raise Superseded(said)
    if said:
        raise OSError(f"checkpoint of step {step} could not be made durable: {said}")


def own_files(root: Path, rank: int) -> list[Path]:
    """The files that a rank wrote: rank r its random state, rank 0 everything else."""
    files = []
    for parent, _, names in os.walk(root):
        for name in names:
            match = _RNG_OF_RANK.match(name)
            owner = int(match.group(1)) if match else 0
            if owner == rank and name != MANIFEST:
                files.append(Path(parent, name))
    return sorted(files)


def describe(root: Path, files: list[Path], rank: int) -> list[dict]:
    """Flush and hash files: their entries in a manifest."""
    entries = []
    for path in files:
        sync_file(path)
        with open(path, "rb") as f:
            digest = hashlib.file_digest(f, "sha256") if hasattr(hashlib, "file_digest") else _digest(f)
            size = f.tell()
        entries.append(
            {"path": path.relative_to(root).as_posix(), "size": size, "sha256": digest.hexdigest(), "rank": rank}
        )
    return entries


def _digest(f):  # Python 3.10 has no hashlib.file_digest
    digest = hashlib.sha256()
    while block := f.read(1 << 20):
        digest.update(block)
    return digest


def _write_manifest(
    run: RunDir, root: Path, step: int, world: int, files: list[dict], began: float | None = None
) -> None:
    sync_tree(root)
    manifest = {
        "layout": LAYOUT,
        "run_id": run.run_id,
        "attempt": run.attempt,
        "step": step,
        "world_size": world,
        "saved_at": timestamp(),
        "files": sorted(files, key=lambda f: f["path"]),
    }
    if began is not None:
        manifest["seconds"] = round(time.monotonic() - began, 3)
    run.check_fence()
    write_json(root / MANIFEST, manifest)


def retain(run: RunDir, keep: int) -> list[int]:
    """Remove this attempt's older checkpoints; return the steps removed.

    Only checkpoints with a manifest count towards keep, so a torn one never pushes out a
    good one, and at least two stay. The manifest goes first: a half-removed checkpoint must
    not look like a damaged one. Earlier attempts' checkpoints are not this attempt's to touch.
    """
    steps = sorted(
        int(m.group(1)) for p in run.checkpoints.iterdir() if (m := _NAME.match(p.name)) and (p / MANIFEST).is_file()
    )
    removed = steps[: -max(keep, 2)]
    for step in removed:
        root = directory(run, step)
        (root / MANIFEST).unlink()
        sync_directory(root)
        shutil.rmtree(root)
    return removed
