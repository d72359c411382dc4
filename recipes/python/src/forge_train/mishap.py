"""Losses that are no numbers, and losses that leap: what is one, and what then.

To roll back is to do in the process what a resume does in a new one: the trainer is built anew and starts
from the last good checkpoint, or from the start when there is none. The steps from there on are done again;
the batch of the step that went wrong is not learned from. That step still counts, so the learning rate, the
order of the rows and the number of steps stay what they were. Which steps are skipped stands in the
checkpoints: an attempt that resumes skips them too.
"""

from __future__ import annotations

import gc
import statistics
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import keep
from .outcome import BadInput, NotANumber, NothingLeft, RollBack, Spiked
from .runtime import Runtime

WINDOW = 50  # losses that the median is of
ENOUGH = 10  # as many are needed before anything is called a spike


def check(params: Mapping[str, Any]) -> None:
    """Refuse parameters that contradict each other."""
    factor = params["metrics.spike_factor"]
    if 0 < factor <= 1:
        raise BadInput(f"parameter metrics.spike_factor is {factor:g}: allowed is 0 (off), or a factor above 1")
    wants = [n for n in ("metrics.on_nan", "metrics.on_spike") if params[n] == "roll_back"]
    if wants and params.get("train.precision") == "fp16":
        raise BadInput(
            f"parameter {wants[0]} is roll_back and train.precision is fp16, whose loss scaling skips steps by itself; "
            "use bf16, or stop"
        )


class Watch:
    """Says when a loss is a spike: above so many times the median of the last ones."""

    def __init__(self, factor: float, losses: list[float] | None = None):
        self.factor = factor
        self.losses: deque[float] = deque(losses or [], maxlen=WINDOW)

    def look(self, loss: float) -> str:
        """A sentence when this loss is a spike, else "" and it counts from now on."""
        if len(self.losses) >= ENOUGH:
            median = statistics.median(self.losses)
            if median > 0 and loss > self.factor * median:
                return (
                    f"the loss is {loss:.4g}, more than {self.factor:g} times the median {median:.4g} "
                    f"of the last {len(self.losses)} steps"
                )
        self.losses.append(loss)
        return ""


def answer(error: NotANumber, step: int, params: Mapping[str, Any], skipped: list[int]) -> Exception:
    """What this mishap comes to: the error itself, or a roll-back. The same on every rank."""
    if params["metrics.on_spike" if isinstance(error, Spiked) else "metrics.on_nan"] != "roll_back":
        return error
    if step in skipped:  # nothing was learned from it, so going back once more changes nothing
        return error
    most = params["metrics.max_roll_backs"]
    if len(skipped) >= most:
        words = f"{error}; it was rolled back {len(skipped)} times already (metrics.max_roll_backs is {most})"
        return type(error)(words)
    return RollBack(step, str(error))


def train(job) -> Any:
    """Build the recipe's trainer and train to the end, through roll-backs; return the trainer."""
    runtime: Runtime = job.runtime
    resume = runtime.run.resume_from
    while True:
        trainer = job.recipe.build(job)
        try:
            trainer.train(resume_from_checkpoint=str(resume) if resume else None)
            return trainer
        except NothingLeft:
            return trainer
        except RollBack as e:
            resume = keep.go_back_together(runtime.run, runtime.gang)
            _forget(runtime, e, resume)
        del trainer  # before the next one is built: both would not fit a GPU
        gc.collect()
        if runtime.gang.device == "cuda":
            import torch

            torch.cuda.empty_cache()


def _forget(runtime: Runtime, mishap: RollBack, resume: Path | None) -> None:
    runtime.skipped = sorted({*runtime.skipped, mishap.step})
    runtime.notes["skipped_steps"] = runtime.skipped
    runtime.not_finite = runtime.spiked = ""
    own = resume is not None and resume.parent == runtime.run.checkpoints
    runtime.saved_step = int(resume.name.split("-")[1]) if own else None
    where = f"to {resume.name}" if resume else "to the start"
    runtime.say(f"{mishap}; going back {where}, the batch of step {mishap.step} is skipped from now on")
