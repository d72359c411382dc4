"""What the tests on a real GPU share: a model of half a billion weights, made offline, and what its runs are measured with.

FORGE_GPU_DRYRUN=1 makes everything small and runs it on the CPU, so that nobody looks for a slip of the pen on a machine that is paid by
the minute. What only a GPU can show (speed, peak memory, CUDA's own bytes) is then not asserted.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from conftest import configuration
from gang_of import SRC, Attempt
from gpu_model import DRY, SHAPE

HERE = Path(__file__).parent
LENGTH = 1024 if not DRY else 64
STEPS, WARM = (24, 5) if not DRY else (6, 2)
# dense bf16, of the data sheets (internal/footprint/work.go)
PEAKS = {"H200": 989e12, "H100": 989e12}


def big(directory: Path) -> Path:
    """The model, made by a process of its own: the one of the tests has no CUDA."""
    if not directory.is_dir():  # under its name it is whole
        env = os.environ | {"PYTHONPATH": f"{SRC}:{HERE}", "CUDA_VISIBLE_DEVICES": "" if DRY else "0"}
        subprocess.run([sys.executable, str(HERE / "gpu_model.py"), str(directory)], env=env, check=True, timeout=180)
    return directory


def rows(path: Path, batch: int) -> Path:
    """Texts longer than what is learned from, and one in each batch an eighth shorter: an estimate takes rows of different lengths."""
    out = []
    for i in range(4 * batch):
        text = f"{i}: the usual reason is that it is set to silent; slide the switch and look at the screen. " * (LENGTH // 4)
        out.append(json.dumps({"text": text if i % batch else text[: LENGTH]}))
    path.write_text("\n".join(out) + "\n")
    return path


def begin(a: Attempt, *program: str) -> Attempt:
    """Start a new interpreter that sees the first GPU: CUDA does not go on in a forked one."""
    if not DRY:
        a.extra |= {"CUDA_VISIBLE_DEVICES": "0"}
    a.extra |= {"PYTHONPATH": f"{SRC}:{HERE}", "OMP_NUM_THREADS": "2"}
    return a.start(program or None, new_interpreter=True)


def watched(a: Attempt, recipe: str, leave: bool = False) -> Attempt:
    """The same, with what its steps took written to watched.json."""
    return begin(a, str(HERE / "gpu_watch.py"), recipe, str(a.dir / "watched.json"), str(WARM), str(STEPS - 1), *(["leave"] if leave else []))


def seen(directory: Path) -> dict:
    return json.loads((directory / "watched.json").read_text())


def texts(base: Path, data: Path, **params) -> dict:
    """A configuration of lora_sft over the model and such rows."""
    given = {"train__precision": "bf16", "train__max_length": LENGTH, "train__max_steps": STEPS, "train__warmup_ratio": 0.0}
    return configuration(base, data, "text", **given | {"checkpoint__every_steps": 10_000} | params)


def operations(peft: str, tokens: float, length: float) -> float:
    """What the training of so many tokens is, as internal/footprint counts it: 6 operations for each weight of a matrix and token, 4 where the
    base is frozen (its weights have no gradients), and attention's. What the adapters themselves take is not counted."""
    head = SHAPE["hidden_size"] // SHAPE["num_attention_heads"]
    per_layer = 2 * SHAPE["hidden_size"] ** 2 + 2 * SHAPE["hidden_size"] * head * SHAPE["num_key_value_heads"]
    per_layer += 3 * SHAPE["hidden_size"] * SHAPE["intermediate_size"]
    matrices = SHAPE["num_hidden_layers"] * per_layer + SHAPE["hidden_size"] * SHAPE["vocab_size"]
    return (6 if peft == "none" else 4) * tokens * (matrices + SHAPE["num_hidden_layers"] * SHAPE["hidden_size"] * length)
