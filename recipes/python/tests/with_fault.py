"""Runs a recipe with one planted fault: python with_fault.py FAULT RANK STEP. Which recipe the configuration says.

Each fault strikes on one rank at one step, at a place that a test from outside could only
hit by luck. Everything else is the real program.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
from pathlib import Path

from forge_train import checkpoint, disk, settings, start
from forge_train.runtime import Runtime

FAULT, RANK, STEP = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
here = int(os.environ["RANK"]) == RANK


def raise_fence() -> None:
    Path(os.environ["FORGE_FENCE_FILE"]).write_text(f"{int(os.environ['FORGE_ATTEMPT']) + 1}\n")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def at_boundary(act):
    real = Runtime.boundary

    def boundary(self):
        if here and self.step == STEP:
            act()
        return real(self)

    Runtime.boundary = boundary


def in_commit(act, before: bool):
    real = checkpoint.describe

    def describe(root, files, rank):
        mine = here and root.name == f"checkpoint-{STEP}"
        if mine and before:
            act()
        entries = real(root, files, rank)
        if mine and not before:
            act()
        return entries

    checkpoint.describe = describe


def in_trainer(name: str, act, from_then_on: bool = False):
    """At every call of a trainer's method while STEP steps are done, or from then on."""
    real_import = start.import_libraries

    def import_libraries(quiet):
        real_import(quiet)
        from transformers import Trainer

        real = getattr(Trainer, name)

        def method(self, *args, **kwargs):
            done = self.state.global_step
            if here and (done == STEP or from_then_on and done > STEP):
                return act(real, self, *args, **kwargs)
            return real(self, *args, **kwargs)

        setattr(Trainer, name, method)

    start.import_libraries = import_libraries


def after_import(act):
    """import_libraries, and then act on the Trainer."""
    real = start.import_libraries

    def import_libraries(quiet):
        real(quiet)
        from transformers import Trainer

        act(Trainer)

    return import_libraries


if FAULT == "fence_at_step":
    at_boundary(raise_fence)
elif FAULT == "fence_in_save":
    in_commit(raise_fence, before=False)
elif FAULT == "die_at_step":
    at_boundary(die)
elif FAULT == "die_before_manifest":
    in_commit(die, before=True)
elif FAULT == "die_while_writing":  # adapter and optimizer are written, the random state is not
    in_trainer("_save_rng_state", lambda real, self, *a, **k: die())
elif FAULT == "nan_from_then_on":

    def always(real, self, *args, **kwargs):
        return real(self, *args, **kwargs) * float("nan")

    in_trainer("training_step", always, from_then_on=True)
elif FAULT == "nan_then_stop":  # after going back, two steps before the bad one comes again
    in_trainer("training_step", lambda real, self, *a, **k: real(self, *a, **k) * float("nan"))
    boundary = Runtime.boundary

    def stop(self):
        if here and self.skipped and self.step == STEP - 2:
            os.kill(os.getpid(), signal.SIGUSR1)
        return boundary(self)

    Runtime.boundary = stop
elif FAULT == "spike":  # the loss only: what it does to the weights is not the point

    def high(real, self, *args, **kwargs):
        return real(self, *args, **kwargs) * 100

    in_trainer("training_step", high)
elif FAULT == "nan_loss":
    in_trainer("training_step", lambda real, self, *a, **k: real(self, *a, **k) * float("nan"))
elif FAULT == "infinite_gradients":
    in_trainer("_get_grad_norm", lambda real, self, *a, **k: real(self, *a, **k) * float("inf"))
elif FAULT == "full_disk":

    def full(root, files, rank, real=checkpoint.describe):
        if here and root.name == f"checkpoint-{STEP}":
            raise OSError(28, "No space left on device")
        return real(root, files, rank)

    checkpoint.describe = full
elif FAULT == "killed_in_the_save":  # that a signal asked for: the grace was too short

    def ask():
        os.kill(os.getpid(), signal.SIGUSR1)
        in_commit(die, before=True)

    at_boundary(ask)
elif FAULT == "blind":  # to how much room there is
    disk.lack = lambda where, need: ""
elif FAULT == "signal_at_step":
    at_boundary(lambda: os.kill(os.getpid(), signal.SIGUSR1))
elif FAULT == "term_at_step":
    at_boundary(lambda: os.kill(os.getpid(), signal.SIGTERM))
elif FAULT == "skip_rng":  # three restores that are not whole, to see that a comparison of runs tells
    start.import_libraries = after_import(lambda trainer: setattr(trainer, "_load_rng_state", lambda self, *a: None))
elif FAULT == "skip_optimizer":
    start.import_libraries = after_import(
        lambda trainer: setattr(trainer, "_load_optimizer_and_scheduler", lambda self, *a: None)
    )
elif FAULT == "skip_sampler":
    settings.arguments = lambda *a, real=settings.arguments: real(*a) | {"ignore_data_skip": True}
elif FAULT == "skip_value":  # of PPO, and its losses that are no numbers

    def forget():
        from forge_train import value

        value.restore = lambda model, directory: True

    start.import_libraries = lambda quiet, real=start.import_libraries: (real(quiet), forget())
elif FAULT == "nan_in_update":

    def poison():
        from forge_train import ppo_trainer, update

        learn = ppo_trainer.Updates._learn

        def _learn(self, *args):
            real, calls = update.loss, []

            def loss(*args):
                total, told = real(*args)
                calls.append(None)
                # the first mini batch of several: the steps after it are taken, too
                return (total * float("nan"), told) if len(calls) == 1 and here and self.state.global_step == STEP else (total, told)

            update.loss = loss
            try:
                return learn(self, *args)
            finally:
                update.loss = real

        ppo_trainer.Updates._learn = _learn

    start.import_libraries = lambda quiet, real=start.import_libraries: (real(quiet), poison())
elif FAULT == "forget_answers":  # that are still learnt from
    from forge_train.rollouts import Rollouts

    def forget(self, checkpoint, real=Rollouts._restore):
        real(self, checkpoint)
        self._buffered_inputs = None

    Rollouts._restore = forget
elif FAULT == "forget_epoch":  # in which the sampler is
    from forge_train.rollouts import ByEpoch

    ByEpoch.__iter__ = lambda self: iter(self.sampler)
elif FAULT == "note_base":  # no fault: what the base is held in, before the first step and after the last
    import watched

    start.import_libraries = watched.base(start.import_libraries, Path(os.environ["FORGE_ATTEMPT_DIR"]) / "base.json")
else:
    raise SystemExit(f"unknown fault {FAULT}")

recipe = json.loads(Path(os.environ["FORGE_CONFIG"]).read_text())["recipe"]
start.leave(importlib.import_module(f"forge_train.{recipe}").RECIPE)
