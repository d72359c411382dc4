"""LoRA over a base in 4 bits, on a real GPU with bitsandbytes: make test-gpu. No part of make test.

The ranks are new interpreters: CUDA does not go on in a forked one.
"""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from conftest import declared_metrics, of_recipe
from gang_of import Attempt, curve, digests

FAULTS = str(Path(__file__).with_name("with_fault.py"))
pytestmark = pytest.mark.gpu
STEPS = 24
PARAMS = {
    "peft": "qlora",
    "train__max_steps": STEPS,
    "train__batch_size": 4,
    "train__learning_rate": 5e-3,
    "train__deterministic": True,
    "checkpoint__every_steps": 8,
    "lora__dropout": 0.05,
}


def begin(a: Attempt, *fault: str) -> Attempt:
    """Start an attempt that sees the first GPU."""
    a.extra |= {"CUDA_VISIBLE_DEVICES": "0"}
    return a.start((FAULTS, *fault), new_interpreter=True)


@pytest.fixture(scope="module")
def runs(tiny, tmp_path_factory) -> tuple[Attempt, Attempt, Attempt]:
    """The same run undisturbed, killed at step 14, and gone on with from step 8."""
    config = of_recipe("lora_sft", tiny, **PARAMS)
    root = tmp_path_factory.mktemp("qlora")
    calm = begin(Attempt(root / "calm", 1, config), "note_base", "0", "0")
    assert calm.wait(180) == [0], calm.logs()
    killed = begin(Attempt(root / "run", 1, config), "die_at_step", "0", "14")
    assert killed.wait(180) == [-signal.SIGKILL], killed.logs()
    again = begin(Attempt(root / "run", 2, config, resume=killed.newest()), "note_base", "0", "0")
    assert again.wait(180) == [0], again.logs()
    return calm, killed, again


def base_of(a: Attempt) -> dict:
    return json.loads((a.dir / "base.json").read_text())


def test_it_learns_and_reports_what_the_recipe_declares(runs):
    first, last = runs[0].metrics()[0]["values"], runs[0].metrics()[-1]["values"]
    print(f"loss {first['loss']:.4f} -> {last['loss']:.4f}; {last}")
    assert last["loss"] < first["loss"]
    assert set(last) <= declared_metrics("lora_sft") and any(name.startswith("gpu/") for name in last)


def test_every_linear_layer_of_the_base_stays_in_the_same_4_bits_and_only_the_adapter_is_trained(runs):
    for a in (runs[0], runs[2]):
        before, after = base_of(a)["begin"], base_of(a)["end"]
        print(f"{len(after['packed'])} layers in 4 bits, trained: {after['trained_in']}")
        assert before == after
        assert len(after["packed"]) == 2 * 7, "two layers of q, k, v, o, gate, up and down"
        assert [n for n in after["linear_not_packed"] if not n.endswith("lm_head")] == []
        assert after["trained"] and all("lora_" in n for n in after["trained"])
        assert after["device"] == ["cuda"]
    assert base_of(runs[0]) == base_of(runs[2])


def test_the_checkpoints_and_the_output_hold_the_adapter_and_nothing_of_the_base(runs):
    for a in runs:
        files = {p.name: p.stat().st_size for p in a.newest().iterdir()}
        assert "adapter_model.safetensors" in files and not [n for n in files if n.startswith("model")]
    assert (runs[0].output / "adapter_model.safetensors").is_file()


def test_killed_and_gone_on_with_it_has_the_losses_of_the_undisturbed_run(runs):
    calm, killed, again = runs
    assert again.metrics()[0]["step"] == 9
    was, now = curve(calm), curve(killed, again)
    worst = max(abs(was[s]["loss"] - now[s]["loss"]) for s in was)
    print(f"largest difference of any step's loss: {worst:g}")
    assert sorted(was) == sorted(now) == list(range(1, STEPS + 1)) and worst <= 1e-6


def test_killed_and_gone_on_with_it_ends_with_the_same_bytes(runs):
    assert digests(runs[2]) == digests(runs[0])


@pytest.mark.parametrize("recipe", ["dpo", "reward"])
def test_the_other_recipes_train_over_it(tiny, attempt, recipe):
    rate = {"train__max_steps": 4, "checkpoint__every_steps": 4}
    a = begin(attempt(of_recipe(recipe, tiny, **PARAMS | rate)), "note_base", "0", "0")
    assert a.wait(180) == [0], a.logs()
    assert len(base_of(a)["end"]["packed"]) == 2 * 7 and base_of(a)["begin"]["packed"] == base_of(a)["end"]["packed"]
    if recipe == "dpo":
        assert a.metrics()[0]["values"]["loss"] == pytest.approx(0.6931, abs=1e-3), "the reference is the base in the same 4 bits"
    assert set(a.metrics()[-1]["values"]) <= declared_metrics(recipe)
