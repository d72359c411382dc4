"""The rank contract in a running program: signals, stop file, fence, metrics, last word.

Nothing is done inside a signal handler but to set a flag: a checkpoint written from a
handler meets a half-done optimizer step, or a collective that the other ranks are not in.
Every rank asks at each step boundary and the gang acts on the strongest wish of any rank,
so all stop at the same step.
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping

from .gang import Gang
from .outcome import CHECKPOINTED, OK, Cancelled, Checkpointed, NotANumber, Superseded, Verdict, judge
from .rundir import RunDir, timestamp, write_json

# What a rank may wish for at a step boundary, weakest first; Gang.agree takes the highest.
GO_ON = 0
SAVE = 1
CANCEL = 2
NOT_FINITE = 3
FENCED = 4

_STOP_POLL_SECONDS = 0.25
_HEARTBEAT_SECONDS = 5.0
_PRINT_SECONDS = 1.0


class Runtime:
    """One rank of one attempt."""

    def __init__(self, run: RunDir, gang: Gang, clock: Callable[[], float] = time.monotonic):
        self.run = run
        self.gang = gang
        self.step = 0
        self.total_steps = 0
        self.saved_step: int | None = None  # newest step with a manifest of this attempt
        self.agreed = GO_ON
        self.code: dict[str, str] = {}
        self.not_finite = ""
        self._fenced = ""
        self._signalled = False
        self._clock = clock
        self._polled = -math.inf
        self._stop_file = ""
        self._beat = -math.inf
        self._printed = -math.inf

    @property
    def first(self) -> bool:
        """Rank 0: the one that writes."""
        return self.gang.rank == 0

    def listen(self) -> None:
        """From now on TERM and USR1 only set a flag. USR1's default action would kill."""
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: object) -> None:
        self._signalled = True

    def wish(self) -> int:
        """What this rank wants to happen at the next step boundary."""
        if self._fenced:
            return FENCED
        if self.not_finite:
            return NOT_FINITE
        now = self._clock()
        if self._stop_file != "cancel" and (self._signalled or now - self._polled >= _STOP_POLL_SECONDS):
            # a checkpoint can still turn into a cancel, never the other way round
            self._polled = now
            self._stop_file = self.run.stop_signal() or self._stop_file
        if self._stop_file == "cancel":
            return CANCEL
        return SAVE if self._stop_file or self._signalled else GO_ON

    def boundary(self) -> bool:
        """Agree with the other ranks at a step boundary; True: save now and stop.

        Raises on every rank alike when the end is one without a save.
        """
        if self.first and not self._fenced:
            self._look_at_fence()
        self.agreed = self.gang.agree(self.wish())
        if self.agreed == FENCED:
            raise Superseded(self._fenced or "a newer attempt holds the fence")
        if self.agreed == NOT_FINITE:
            raise NotANumber(
                f"step {self.step}: {self.not_finite or 'loss or gradients of another rank are not finite'}"
            )
        if self.agreed == CANCEL:
            raise Cancelled("cancelled on request; no checkpoint was saved")
        return self.agreed == SAVE

    def before_first_step(self) -> None:
        """A stop that came during the start: nothing is new, so nothing is saved."""
        if self.boundary():
            raise Checkpointed(f"asked to stop before step {self.step + 1}; there was nothing new to save")

    def stop_if_cancelled(self) -> None:
        """Between two phases of the start, where ranks are not yet waiting for each other."""
        if self.wish() == CANCEL:
            raise Cancelled("cancelled on request before training began")

    def _look_at_fence(self) -> None:
        try:
            self.run.check_fence()
        except Superseded as e:
            self._fenced = str(e)

    def report(self, step: int, values: Mapping[str, float]) -> None:
        """Append one line of metrics, whole, unless a newer attempt holds the fence.

        The fence is not raised from here: this runs on rank 0 alone, and the next boundary
        takes all ranks out together.
        """
        if not self.first or self._fenced:
            return
        self._look_at_fence()
        if self._fenced:
            return
        finite = {k: v for k, v in values.items() if isinstance(v, (int, float)) and math.isfinite(v)}
        line = {"step": step, "total_steps": self.total_steps, "time": timestamp(), "values": finite}
        data = json.dumps(line).encode() + b"\n"
        fd = os.open(self.run.metrics, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        try:
            while data:  # a signal may cut a write short; readers take only whole lines
                data = data[os.write(fd, data) :]
        finally:
            os.close(fd)
        self._beat = self._clock()
        self._print(step, finite)

    def beat(self) -> None:
        """Show life where there are no metrics to report."""
        now = self._clock()
        if self.first and not self._fenced and now - self._beat >= _HEARTBEAT_SECONDS:
            self._beat = now
            self.run.heartbeat.touch(mode=0o640)

    def _print(self, step: int, values: Mapping[str, float]) -> None:
        now = self._clock()
        if now - self._printed < _PRINT_SECONDS and step != self.total_steps:
            return
        self._printed = now
        shown = "  ".join(f"{k} {values[k]:.4g}" for k in ("loss", "learning_rate", "grad_norm") if k in values)
        print(f"step {step}/{self.total_steps}  {shown}", flush=True)

    def finish(self, error: BaseException | None) -> int:
        """Leave the last word and return the exit code."""
        if error is None:
            verdict = Verdict(OK, "completed", "", "")
        else:
            verdict = judge(error)
        if verdict.message:
            print(f"rank {self.gang.rank}: {verdict.message}", file=sys.stderr, flush=True)
        if self.first:
            step = self.saved_step if verdict.code == CHECKPOINTED and self.saved_step is not None else self.step
            status = {
                "attempt": self.run.attempt,
                "outcome": verdict.outcome,
                "reason": verdict.reason,
                "step": step,
                "total_steps": self.total_steps,
                "message": verdict.message,
                "code": self.code,
            }
            try:
                write_json(self.run.status, status)
            except OSError as e:  # a full or lost disk must not turn the exit code into another
                print(f"rank 0: {self.run.status} could not be written: {e}", file=sys.stderr, flush=True)
        return verdict.code
