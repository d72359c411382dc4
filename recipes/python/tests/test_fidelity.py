"""A recipe learns what the same TRL script learns without forge."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import DATA, PAIRS, of_recipe
from gang_of import curve

pytestmark = [pytest.mark.training, pytest.mark.long]
BARE = Path(__file__).with_name("bare_trl.py")
PARAMS = {k.replace(".", "__"): v for k, v in json.loads(BARE.with_name("fidelity.json").read_text()).items()}
OWN = {"lora_sft": "mean_token_accuracy", "dpo": "rewards/margins", "reward": "margin"}


@pytest.mark.parametrize("recipe", OWN)
def test_every_steps_loss_is_the_one_of_the_bare_script(tiny, attempt, tmp_path, recipe):
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    data = DATA if recipe == "lora_sft" else PAIRS
    bare = subprocess.run(
        [sys.executable, BARE, recipe, tiny, data, tmp_path / "bare"],
        env=env,
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    expected = json.loads(bare.stdout.splitlines()[-1])
    a = attempt(of_recipe(recipe, tiny, **PARAMS)).start()
    assert a.wait() == [0], a.logs()
    got = curve(a)
    assert len(expected) == len(got) == 12
    assert expected[-1]["loss"] < expected[0]["loss"]
    for step, line in enumerate(expected, 1):
        for name in ("loss", "grad_norm", "learning_rate", OWN[recipe]):
            assert got[step][name] == pytest.approx(line[name], abs=1e-6), f"step {step}: {name}"
