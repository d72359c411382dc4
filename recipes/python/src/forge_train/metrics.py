"""What a run reports: which values of a trainer, with what of our own, and how the lines get to metrics.jsonl."""

from __future__ import annotations

import json
import math
import os
import re
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

from .rundir import timestamp

# the same form as recipes' metric names (recipes/fragment.go), and forged keeps no longer ones
_NAME = re.compile(r"^[A-Za-z][A-Za-z0-9_./-]{0,63}$")
MAX_NAMES = 100
_MAX_WAITING = 10_000


class Lines:
    """The file of metrics. On a disk that is full lines wait, so that the curve has no hole once there is room."""

    def __init__(self, path: Path):
        self.path = path
        self._waiting: deque[bytes] = deque(maxlen=_MAX_WAITING)
        self._torn = False  # a write was cut short inside a line
        self._told = False

    def write(self, step: int, total: int, values: Mapping[str, float]) -> str:
        """Append one line, whole, after whatever waits; a sentence when that begins to fail."""
        line = {"step": step, "total_steps": total, "time": timestamp(), "values": values}
        self._waiting.append(json.dumps(line).encode() + b"\n")
        return self.flush()

    def flush(self) -> str:
        """Append what waits."""
        if not self._waiting:
            return ""
        try:
            fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
            try:
                while self._waiting:
                    self._append(fd, self._waiting[0])
                    self._waiting.popleft()
            finally:
                os.close(fd)
        except OSError as e:
            told, self._told = self._told, True
            return "" if told else f"metrics cannot be written, they wait in memory: {e}"
        self._told = False
        return ""

    def _append(self, fd: int, line: bytes) -> None:
        data = b"\n" + line if self._torn else line  # readers pass over a line that is none
        written = 0
        try:
            while written < len(data):  # a signal may cut a write short
                written += os.write(fd, data[written:])
        except OSError:
            self._torn = self._torn or written > 0
            raise
        self._torn = False


class Own:
    """The values that a trainer logs itself, as far as they are numbers and their names will do."""

    def __init__(self, say: Callable[[str], None]):
        self._names: set[str] = set()
        self._refused: set[str] = set()
        self._say = say

    def of(self, logs: Mapping[str, object]) -> dict[str, float]:
        """What may be reported of it."""
        values = {}
        for name, value in logs.items():
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                continue
            if name not in self._names:
                if not _NAME.match(name) or len(self._names) >= MAX_NAMES:
                    self._refuse(name)
                    continue
                self._names.add(name)
            values[name] = float(value)
        return values

    def _refuse(self, name: str) -> None:
        if name in self._refused or len(self._refused) >= MAX_NAMES:
            return
        self._refused.add(name)
        self._say(
            f"metric {name[:80]!r} is not reported: a name has letters, digits and _ . / -, at most 64 of them, "
            f"and a run at most {MAX_NAMES} names"
        )


class Split:
    """Where the time of a step goes, in seconds per step since the last report."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self.start()

    def start(self) -> None:
        """Count from here on."""
        self._since, self._spent, self._steps = self._clock(), {"data": 0.0, "save": 0.0}, 0

    def spend(self, on: str, since: float) -> None:
        """What began at since, by the same clock, ends now."""
        self._spent[on] += self._clock() - since

    def step(self) -> None:
        """One more step is done."""
        self._steps += 1

    def report(self) -> dict[str, float]:
        """time/data, time/compute, time/save; begins anew."""
        steps, now = max(self._steps, 1), self._clock()
        data, save = self._spent["data"], self._spent["save"]
        compute = max(0.0, now - self._since - data - save)
        self.start()
        return {"time/data": data / steps, "time/compute": compute / steps, "time/save": save / steps}


def gpu_memory() -> dict[str, float]:
    """Of this process's GPU, in MiB."""
    import torch

    mib = 1 << 20
    return {
        "gpu/allocated_mib": torch.cuda.memory_allocated() / mib,
        "gpu/reserved_peak_mib": torch.cuda.max_memory_reserved() / mib,
    }
