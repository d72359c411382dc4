"""An eval whose harness is not what it should be: python eval_fault.py FAULT, in a rank's environment."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

from forge_train import evaluate
from forge_train.start import leave


def _tracker():
    from lm_eval.loggers import EvaluationTracker

    return EvaluationTracker


def writes_nothing() -> None:
    """What lm-eval does when a disk is full: a warning, and a good end."""
    _tracker().save_results_aggregated = lambda self, results, samples=None: setattr(self, "date_id", "x")


def _altered(change) -> None:
    kept = _tracker().save_results_aggregated

    def save(self, results, samples=None):
        change(results, samples)
        kept(self, results, samples)

    _tracker().save_results_aggregated = save


def nan() -> None:
    _altered(lambda results, _: [r.update({"acc,none": float("nan")}) for r in results["results"].values() if "acc,none" in r])


def fewer() -> None:
    _altered(lambda results, _: [n.update(effective=n["effective"] - 1) for n in results["n-samples"].values()])


def no_metric() -> None:
    _altered(lambda results, _: [r.pop("acc,none", None) for r in results["results"].values()])


def better() -> None:
    _altered(lambda results, _: [r.update({"acc,none": 0.99}) for r in results["results"].values() if "acc,none" in r])


def lost_sample() -> None:
    kept = _tracker().save_results_samples
    _tracker().save_results_samples = lambda self, task_name, samples: kept(self, task_name, samples[:-1])


def stop_in_second() -> None:
    """TERM while the second task is under way."""
    kept = evaluate.Eval._one

    def one(self, unit, loaded, size):
        if self.done:
            os.kill(os.getpid(), signal.SIGTERM)
            evaluate._LOOK_SECONDS = 0.0
            time.sleep(0.01)
        kept(self, unit, loaded, size)

    evaluate.Eval._one = one


def count() -> None:
    """Note which tasks are really run."""
    kept = evaluate.Eval._one

    def one(self, unit, loaded, size):
        with open(Path(os.environ["FORGE_ATTEMPT_DIR"], "ran"), "a") as f:
            f.write(json.dumps(unit) + "\n")
        kept(self, unit, loaded, size)

    evaluate.Eval._one = one


if __name__ == "__main__":
    evaluate._quiet(argsuite := __import__("forge_train.suite", fromlist=["read"]).read(json.loads(Path(os.environ["FORGE_CONFIG"]).read_bytes())), Path(os.environ["FORGE_ATTEMPT_DIR"], "eval"))
    globals()[sys.argv[1]]()
    leave(evaluate.RECIPE, evaluate.work)
