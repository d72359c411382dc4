"""An interrupted run of any recipe ends with the same bytes as an undisturbed one, and a restore that forgets something is seen."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from conftest import of_recipe
from gang_of import Attempt, curve, digests

FAULTS = str(Path(__file__).with_name("with_fault.py"))
pytestmark = pytest.mark.training
STEPS = 12
# dropout, so that the random state matters; 12 steps of 2 ranks by 2 rows end no epoch, batch 18 below does
PARAMS = {
    "train__max_steps": STEPS,
    "train__batch_size": 2,
    "train__learning_rate": 1e-2,
    "train__deterministic": True,
    "checkpoint__every_steps": 4,
    "lora__dropout": 0.1,
}
KINDS = [
    pytest.param("lora_sft", 1, {}, id="lora_sft, 1 rank"),
    pytest.param("dpo", 1, {}, id="dpo, 1 rank"),
    pytest.param("reward", 2, {}, id="reward, 2 ranks"),
    *[
        pytest.param(*case, marks=pytest.mark.long, id=f"{case[0]}, {case[1]} ranks, {case[2]}")
        for case in [
            ("lora_sft", 2, {}),
            ("dpo", 2, {}),
            ("reward", 1, {}),
            ("dpo", 2, {"dpo__reference": "second_adapter"}),
            ("dpo", 1, {"peft": "none", "train__learning_rate": 1e-4}),
            ("lora_sft", 2, {"peft": "none", "train__learning_rate": 1e-4}),
            ("reward", 2, {"peft": "none", "train__learning_rate": 1e-4}),
            ("lora_sft", 1, {"train__batch_size": 18}),
            ("dpo", 2, {"train__gradient_accumulation_steps": 2}),
            ("lora_sft", 3, {}),
            ("lora_sft", 2, {"train__parallel": "fsdp"}),
            ("dpo", 2, {"train__parallel": "fsdp"}),
            ("reward", 2, {"train__parallel": "fsdp"}),
            ("dpo", 2, {"train__parallel": "fsdp", "peft": "none", "train__learning_rate": 1e-4}),
        ]
    ],
]


def undisturbed(tmp_path: Path, config: dict, world: int) -> Attempt:
    a = Attempt(tmp_path / "calm", 1, config, world)
    assert a.start().wait() == [0] * world, a.logs()
    return a


@pytest.mark.parametrize(("recipe", "world", "extra"), KINDS)
def test_killed_stopped_and_killed_again_a_run_ends_with_the_same_bytes(tiny, attempt, tmp_path, recipe, world, extra):
    config = of_recipe(recipe, tiny, **PARAMS | extra)
    calm = undisturbed(tmp_path, config, world)
    last = world - 1
    # killed at 6, goes on from 4; asked to stop at 7; killed at 10, goes on from 8
    first = attempt(config, world).start((FAULTS, "die_at_step", str(last), "6"))
    assert first.wait()[last] == -signal.SIGKILL, first.logs()
    second = attempt(config, world, first.newest()).start((FAULTS, "signal_at_step", "0", "7"))
    assert second.wait() == [85] * world, second.logs()
    third = attempt(config, world, second.newest()).start((FAULTS, "die_at_step", "0", "10"))
    assert third.wait()[0] == -signal.SIGKILL, third.logs()
    fourth = attempt(config, world, third.newest()).start()
    assert fourth.wait() == [0] * world, fourth.logs()

    assert [a.metrics()[0]["step"] for a in (first, second, third, fourth)] == [1, 5, 8, 9]
    assert curve(first, second, third, fourth) == curve(calm), "the metrics of every step"
    expected = digests(calm)
    assert digests(fourth) == expected
    names = {Path(p).name for p in expected}
    assert {"scheduler.pt", "trainer_state.json"} <= names and any(n.startswith("rng_state") for n in names)
    assert names & {"optimizer.pt", "__1_0.distcp"} and names & {"adapter_model.safetensors", "model.safetensors"}


FORGETFUL = [
    pytest.param("lora_sft", 1, ("skip_rng", "skip_sampler")),
    *[
        pytest.param(*case, ("skip_rng", "skip_sampler", "skip_optimizer"), marks=pytest.mark.long)
        for case in [("lora_sft", 2), ("dpo", 1), ("reward", 1)]
    ],
]


@pytest.mark.parametrize(("recipe", "world", "faults"), FORGETFUL)
def test_a_restore_that_forgets_something_ends_otherwise(tiny, attempt, tmp_path, recipe, world, faults):
    config = of_recipe(recipe, tiny, **PARAMS)
    calm = undisturbed(tmp_path, config, world)
    first = attempt(config, world).start((FAULTS, "die_at_step", "0", "6"))
    first.wait()
    for fault in faults:
        second = attempt(config, world, first.newest()).start((FAULTS, fault, "0", "0"))
        assert second.wait() == [0] * world, second.logs()
        assert curve(first, second) != curve(calm), f"{fault}: the metrics would not have shown it"
        expected, got = digests(calm), digests(second)
        for name in ("output/adapter_model.safetensors", f"checkpoints/checkpoint-{STEPS}/optimizer.pt"):
            assert got[name] != expected[name], f"{fault}: {name} would not have shown it"
