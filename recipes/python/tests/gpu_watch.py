"""Notes how fast a trainer's steps are and how much of a GPU they hold at most, the same for a recipe and for a bare script.

    python gpu_watch.py RECIPE OUT.json WARM LAST [leave]      a rank's program, in a rank's environment

The time is that from the beginning of step WARM to that of step LAST, with the GPU waited for at both ends and nowhere between.
With leave the program ends there: to save all weights and moments at the end takes longer than the steps.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from pathlib import Path


def watch(seen: dict, warm: int, last: int, then=lambda: None) -> None:
    """Have every Trainer of transformers tell; then is called in the beginning of step LAST."""
    import torch
    from transformers import Trainer

    step = Trainer.training_step
    cuda = torch.cuda.is_available()

    def now() -> float:
        if cuda:
            torch.cuda.synchronize()
        return time.perf_counter()

    def training_step(self, model, inputs, *args, **kwargs):
        done = self.state.global_step
        if done == warm and "from" not in seen:
            seen["from"], seen["tokens"] = now(), 0
        if done == last and "to" not in seen:
            seen["to"] = now()
            then()
        if warm <= done < last and isinstance(inputs, dict) and "attention_mask" in inputs:
            seen["tokens"] = seen["tokens"] + inputs["attention_mask"].sum()
            seen["padded"] = seen.get("padded", 0) + inputs["attention_mask"].numel()
        return step(self, model, inputs, *args, **kwargs)

    Trainer.training_step = training_step


def told(seen: dict, steps: int) -> dict:
    """What was noted, with the GPU's peak."""
    import torch

    out = {"peak": 0, "device": "cpu"}
    if torch.cuda.is_available():
        out = {"peak": torch.cuda.max_memory_allocated(), "reserved": torch.cuda.max_memory_reserved(), "device": torch.cuda.get_device_name()}
    if "to" in seen:
        seconds = seen["to"] - seen["from"]
        out |= {"step_seconds": seconds / steps, "tokens_per_second": float(seen["tokens"]) / seconds, "tokens": float(seen["tokens"]), "padded": seen.get("padded", 0)}
    return out


def main() -> int:
    from forge_train import start

    recipe, out, warm, last, leave = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), len(sys.argv) > 5
    seen: dict = {}
    load = start.import_libraries

    def write() -> None:
        out.write_text(json.dumps(told(seen, last - warm)))

    def gone() -> None:
        write()
        os._exit(0)

    def import_libraries(quiet):
        load(quiet)
        watch(seen, warm, last, *([gone] if leave else []))

    start.import_libraries = import_libraries
    code = start.main(importlib.import_module(f"forge_train.{recipe}").RECIPE)
    write()
    return code


if __name__ == "__main__":
    sys.exit(main())
