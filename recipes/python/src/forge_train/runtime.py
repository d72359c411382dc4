"""The rank contract in a running program: signals, stop file, fence, metrics, last word.

Nothing is done inside a signal handler but to set a flag: a checkpoint written from a
handler meets a half-done optimizer step, or a collective that the other ranks are not in.
Every rank asks at each step boundary and the gang acts on the strongest wish of any rank,
so all stop at the same step.
"""

from __future__ import annotations

import math
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from .gang import Gang
from .metrics import Lines
from .outcome import CHECKPOINTED, OK, Cancelled, Checkpointed, NotANumber, Spiked, Superseded, Verdict, judge
from .report import Trackers
from .rundir import RunDir, write_json

# What a rank may wish for at a step boundary, weakest first; Gang.agree takes the highest.
GO_ON = 0
SAVE = 1
SPIKED = 2
CANCEL = 3
NOT_FINITE = 4
FENCED = 5

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
        self.about: dict[str, Any] = {}  # what every manifest says of the run's inputs
        self.not_finite = ""
        self.spiked = ""
        self.skipped: list[int] = []  # steps whose batch is not learned from
        self.notes: dict[str, Any] = {}  # for status.json, beside what is always there
        self.asked: float | None = None  # when this rank learned that a stop is wanted
        self.lines = Lines(run.metrics)
        self.trackers = Trackers(run, {}, self.say)
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
        if not self._signalled:
            self.asked = self.asked or self._clock()
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
            before, self._polled = self._polled, now
            self._stop_file = self.run.stop_signal() or self._stop_file
            if self._stop_file and self.asked is None:
                # between two looks a whole step may pass: the file says when, and it was not there before
                self.asked = max(before, now - self.run.stop_age())
        if self._stop_file == "cancel":
            return CANCEL
        if self.spiked:
            return SPIKED
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
        if self.agreed == SPIKED:
            raise Spiked(f"step {self.step}: {self.spiked or 'another rank saw a spike of the loss'}")
        return self.agreed == SAVE

    def say(self, text: str) -> None:
        """A sentence for whoever reads the log, from rank 0. The log may lie on the disk that is full."""
        if self.first:
            _print_to(sys.stderr, f"forge: {text}")

    def save_begins(self, reason: str) -> None:
        """The last word should this save never end: KILL comes after the grace, and says nothing."""
        if not self.first:
            return
        last = self.saved_step
        since = f"the last checkpoint of this attempt is of step {last}" if last else "this attempt has no other checkpoint"
        self._leave("failed", "grace", self.step, f"{reason}; the save of step {self.step} had begun and was not done: {since}")

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
        trouble = self.lines.write(step, self.total_steps, finite)
        if trouble:
            self.say(trouble)
        self.trackers.log(step, finite)
        self._beat = self._clock()
        self._print(step, finite)

    def beat(self) -> None:
        """Show life where there are no metrics to report."""
        now = self._clock()
        if self.first and not self._fenced and now - self._beat >= _HEARTBEAT_SECONDS:
            self._beat = now
            try:
                self.run.heartbeat.touch(mode=0o640)
            except OSError:  # a full disk is told of where something is lost
                pass

    def _print(self, step: int, values: Mapping[str, float]) -> None:
        now = self._clock()
        if now - self._printed < _PRINT_SECONDS and step != self.total_steps:
            return
        self._printed = now
        shown = "  ".join(f"{k} {values[k]:.4g}" for k in ("loss", "learning_rate", "grad_norm") if k in values)
        _print_to(sys.stdout, f"step {step}/{self.total_steps}  {shown}")

    def finish(self, error: BaseException | None) -> int:
        """Leave the last word and return the exit code."""
        if error is None:
            verdict = Verdict(OK, "completed", "", "")
        else:
            verdict = judge(error)
        if verdict.message:
            _print_to(sys.stderr, f"rank {self.gang.rank}: {verdict.message}")
        if self.first:
            if not self._fenced:
                self.lines.flush()
            step = self.saved_step if verdict.code == CHECKPOINTED and self.saved_step is not None else self.step
            self._leave(verdict.outcome, verdict.reason, step, verdict.message)
            self.trackers.close(verdict.code == OK)
        return verdict.code

    def _leave(self, outcome: str, reason: str, step: int, message: str) -> None:
        status = {
            "attempt": self.run.attempt,
            "outcome": outcome,
            "reason": reason,
            "step": step,
            "total_steps": self.total_steps,
            "message": message,
            "code": self.code,
        }
        try:
            write_json(self.run.status, status | self.notes)
        except OSError as e:  # a full or lost disk must not turn the exit code into another
            _print_to(sys.stderr, f"rank 0: {self.run.status} could not be written: {e}")


def _print_to(stream, text: str) -> None:
    try:
        print(text, file=stream, flush=True)
    except OSError:  # the log lies on the disk that is full; nobody else may end for it
        pass
