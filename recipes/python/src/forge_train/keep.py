"""Which checkpoints stay, and which one is gone back to.

Only checkpoints with a manifest count, so a torn one never pushes out a good one; the newest two always
stay, so that a torn one has one before it. Earlier attempts' checkpoints are not this attempt's to touch.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import checkpoint
from .outcome import Superseded
from .rundir import MANIFEST, RunDir, sync_directory

_NAME = re.compile(r"^checkpoint-(\d+)$")


@dataclass(frozen=True)
class Rules:
    """What stays: the newest ones, the best one, and one every so many steps for ever."""

    last: int = 2
    every: int = 0  # 0: none
    best: bool = False  # the one with the lowest mean loss since the save before it

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> Rules:
        """The rules that a run's parameters ask for."""
        return cls(
            params["checkpoint.keep_last"], params["checkpoint.keep_every"], params["checkpoint.keep_best"] == "loss"
        )

    def keeps(self, saved: Mapping[int, float | None]) -> set[int]:
        """The steps that stay, of those saved, by their loss."""
        steps = sorted(saved)
        stay = set(steps[-max(self.last, 2) :])
        if self.every:
            stay |= {s for s in steps if s % self.every == 0}
        if self.best and (known := [(loss, -s) for s, loss in saved.items() if loss is not None]):
            stay.add(-min(known)[1])  # of equal ones the newest
        return stay


def saved(run: RunDir) -> dict[int, Path]:
    """This attempt's checkpoints that have a manifest, by step."""
    return {
        int(m.group(1)): p
        for p in run.checkpoints.iterdir()
        if (m := _NAME.match(p.name)) and (p / MANIFEST).is_file()
    }


def retain(run: RunDir, rules: Rules) -> list[int]:
    """Remove this attempt's checkpoints that need not stay; return the steps removed.

    The manifest goes first: a half-removed checkpoint must not look like a damaged one.
    """
    have = saved(run)
    stay = rules.keeps({s: _loss(p) if rules.best else None for s, p in have.items()})
    removed = sorted(set(have) - stay)
    for step in removed:
        (have[step] / MANIFEST).unlink()
        sync_directory(have[step])
        checkpoint.discard(have[step])
    return removed


def _loss(root: Path) -> float | None:
    loss = read(root).get("loss")
    return loss if isinstance(loss, (int, float)) and not isinstance(loss, bool) else None


def read(root: Path) -> dict[str, Any]:
    """The manifest of a checkpoint; empty when there is none that can be read."""
    try:
        manifest = json.loads((root / MANIFEST).read_bytes())
    except (OSError, ValueError):
        return {}
    return manifest if isinstance(manifest, dict) else {}


def size(root: Path) -> int:
    """Bytes of a checkpoint by its manifest; 0 when there is none."""
    return sum(f.get("size", 0) for f in read(root).get("files", []))


def whole(root: Path) -> bool:
    """True when every file is what the manifest says, by size and SHA-256."""
    files = read(root).get("files", [])
    try:
        return bool(files) and all(checkpoint.digest_of(root / f["path"]) == (f["sha256"], f["size"]) for f in files)
    except (OSError, KeyError, TypeError):
        return False


def go_back(run: RunDir) -> Path | None:
    """The newest good checkpoint of this attempt, else the one that it resumed from, else None: the start.

    Newer ones that are torn are removed: the same steps are saved again.
    """
    run.check_fence()
    good = next((s for s, p in sorted(saved(run).items(), reverse=True) if whole(p)), None)
    for p in run.checkpoints.iterdir():
        m = _NAME.match(p.name)
        if m and (good is None or int(m.group(1)) > good):
            checkpoint.discard(p)
    return run.resume_from if good is None else run.checkpoints / f"checkpoint-{good}"


def go_back_together(run: RunDir, gang) -> Path | None:
    """Rank 0 chooses, everybody gets its choice."""
    choice: tuple[str, str, bool] = ("", "", False)
    if gang.rank == 0:
        try:
            choice = (str(go_back(run) or ""), "", False)
        except Superseded as e:
            choice = ("", str(e), True)
        except OSError as e:
            choice = ("", f"rank 0: {e}", False)
    path, said, fenced = gang.gather(choice)[0]
    if fenced:
        raise Superseded(said)
    if said:
        raise OSError(f"the checkpoints could not be looked at: {said}")
    return Path(path) if path else None
