"""A run that was interrupted ends as if it had not been."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from conftest import configuration
from gang_of import Attempt, curve

FAULTS = str(Path(__file__).with_name("with_fault.py"))
pytestmark = pytest.mark.training
STEPS = 24
PARAMS = {"train__max_steps": STEPS, "train__batch_size": 2, "train__learning_rate": 1e-2, "checkpoint__every_steps": 5}


@pytest.fixture(scope="module", params=[1, 2], ids=["1 rank", "2 ranks"])
def undisturbed(request, tiny, tmp_path_factory) -> Attempt:
    a = Attempt(tmp_path_factory.mktemp("calm") / "run", 1, configuration(tiny, **PARAMS), request.param)
    assert a.start(new_interpreter=True).wait() == [0] * request.param, a.logs()
    return a


def assert_same_end(undisturbed: Attempt, *attempts: Attempt) -> None:
    expected, got = curve(undisturbed), curve(*attempts)
    assert sorted(got) == list(range(1, STEPS + 1))
    for step, values in expected.items():
        assert got[step] == pytest.approx(values, abs=1e-6), f"step {step}"
    adapter = "adapter_model.safetensors"
    assert (attempts[-1].output / adapter).read_bytes() == (undisturbed.output / adapter).read_bytes()


def test_an_undisturbed_run_leaves_everything_that_the_contract_names(undisturbed):
    status = undisturbed.status()
    assert (status["outcome"], status["attempt"], status["step"], status["total_steps"]) == (
        "completed",
        1,
        STEPS,
        STEPS,
    )
    assert {"sha256", "torch", "transformers", "trl", "peft", "accelerate", "datasets", "python"} <= set(status["code"])
    lines = undisturbed.metrics()
    assert [m["step"] for m in lines] == list(range(1, STEPS + 1))
    assert {m["total_steps"] for m in lines} == {STEPS}
    assert {"loss", "learning_rate", "grad_norm", "mean_token_accuracy", "num_tokens", "tokens_per_second"} <= set(
        lines[-1]["values"]
    )
    assert lines[-1]["values"]["loss"] < lines[0]["values"]["loss"] - 0.5
    names = {p.name for p in undisturbed.output.iterdir()}
    assert {"adapter_model.safetensors", "adapter_config.json", "tokenizer.json", "training.json"} <= names
    training = json.loads((undisturbed.output / "training.json").read_text())
    assert training["params"]["train.max_steps"] == STEPS and training["code"] == status["code"]
    assert "Warning" not in undisturbed.logs() and "%|" not in undisturbed.logs()


def test_only_the_newest_checkpoints_stay(undisturbed):
    assert sorted(undisturbed.manifests()) == [20, STEPS]
    assert sorted(p.name for p in undisturbed.checkpoints.iterdir()) == ["checkpoint-20", f"checkpoint-{STEPS}"]


def test_a_rank_killed_mid_run(undisturbed, attempt):
    world, config = (
        undisturbed.world,
        configuration(Path(json.loads((undisturbed.dir / "config.json").read_text())["base"]["path"]), **PARAMS),
    )
    first = attempt(config, world).start((FAULTS, "die_at_step", str(world - 1), "13"))
    codes = first.wait()
    assert codes[-1] == -signal.SIGKILL, first.logs()
    # the rank that is left alone says that it lost its peer: not the user's failure
    assert codes[:-1] == [89] * (world - 1), first.logs()
    assert sorted(first.manifests()) == [5, 10]
    second = attempt(config, world, first.newest()).start()
    assert second.wait() == [0] * world, second.logs()
    assert second.metrics()[0]["step"] == 11
    assert_same_end(undisturbed, first, second)


@pytest.mark.parametrize("fault", ["die_before_manifest", "die_while_writing"])
def test_a_save_cut_short_does_not_count(undisturbed, attempt, configure, fault):
    world = undisturbed.world
    first = attempt(configure(**PARAMS), world).start((FAULTS, fault, str(world - 1), "15"))
    codes = first.wait()
    assert codes[-1] == -signal.SIGKILL, first.logs()
    assert (first.checkpoints / "checkpoint-15").is_dir(), "the save had begun"
    assert sorted(first.manifests()) == [5, 10], "nothing was removed for a save that is not durable"
    second = attempt(configure(**PARAMS), world, first.newest()).start()
    assert second.wait() == [0] * world, second.logs()
    assert_same_end(undisturbed, first, second)


def test_stopped_on_request_at_any_step_and_again(undisturbed, attempt, configure):
    world = undisturbed.world
    first = attempt(configure(**PARAMS), world).start((FAULTS, "signal_at_step", str(world - 1), "7"))
    assert first.wait() == [85] * world, first.logs()
    assert sorted(first.manifests()) == [5, 7]
    assert (first.status()["outcome"], first.status()["step"]) == ("checkpointed", 7)
    # step 20 is a regular save and, at 2 ranks, ends no epoch; 12 is in the middle of one
    second = attempt(configure(**PARAMS), world, first.newest()).start((FAULTS, "signal_at_step", "0", "12"))
    assert second.wait() == [85] * world, second.logs()
    third = attempt(configure(**PARAMS), world, second.newest()).start()
    assert third.wait() == [0] * world, third.logs()
    assert third.metrics()[0]["step"] == 13
    assert_same_end(undisturbed, first, second, third)


@pytest.mark.long
@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize(
    "extra",
    [
        {"lora__dropout": 0.1},
        {"train__deterministic": True, "lora__dropout": 0.05},
        {"train__gradient_accumulation_steps": 3},
        {"train__packing": True, "train__max_length": 128},
        {"train__gradient_checkpointing": True},
        {"train__precision": "bf16"},
        {"train__assistant_only_loss": True},
        {"train__lr_scheduler": "cosine", "train__warmup_ratio": 0.5, "train__weight_decay": 0.1},
        {"train__max_steps": 0, "train__epochs": 1.0, "train__batch_size": 8},
    ],
    ids=lambda e: ",".join(k.split("__")[1] for k in e),
)
def test_resuming_is_exact_with(attempt, configure, extra, world, tmp_path):
    config = configure(**PARAMS | extra)
    calm = Attempt(tmp_path / "calm", 1, config, world)
    assert calm.start().wait() == [0] * world, calm.logs()
    first = attempt(config, world).start((FAULTS, "die_at_step", "0", "9"))
    first.wait()
    second = attempt(config, world, first.newest()).start()
    assert second.wait() == [0] * world, second.logs()
    expected, got = curve(calm), curve(first, second)
    assert sorted(got) == sorted(expected)
    for step, values in expected.items():
        assert got[step] == pytest.approx(values, abs=1e-6), f"step {step}"


@pytest.mark.long
def test_resuming_where_an_epoch_ends_is_exact(attempt, configure, tmp_path):
    # 180 rows in batches of 9 by 1 rank: an epoch is 20 steps, and a save falls on its end
    config = configure(
        **PARAMS | {"train__max_steps": 0, "train__epochs": 1.3, "train__batch_size": 9, "lora__dropout": 0.1}
    )
    calm = Attempt(tmp_path / "calm", 1, config)
    assert calm.start().wait() == [0], calm.logs()
    first = attempt(config).start((FAULTS, "die_at_step", "0", "21"))
    first.wait()
    assert first.newest().name == "checkpoint-20"
    second = attempt(config, 1, first.newest()).start()
    assert second.wait() == [0], second.logs()
    expected, got = curve(calm), curve(first, second)
    assert max(expected) == 26
    for step, values in expected.items():
        assert got[step] == pytest.approx(values, abs=1e-6), f"step {step}"


@pytest.mark.training
def test_an_adapter_in_half_precision_is_gone_on_with_in_it(tiny, tmp_path):
    """As TRL makes it over a base in 4 bits, which takes a GPU; PEFT would load it in fp32."""
    import torch
    from forge_train.bridge import ContractTrainer
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

    torch.manual_seed(1)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(tiny), LoraConfig(r=2, target_modules=["q_proj"]))

    def adapter():
        return {name: p for name, p in model.named_parameters() if "lora_" in name}

    for p in adapter().values():
        p.data = torch.randn_like(p).to(torch.bfloat16)
    model.save_pretrained(tmp_path / "checkpoint-1")
    saved = {name: p.detach().clone() for name, p in adapter().items()}
    for p in adapter().values():
        p.data.zero_()
    made = type("Trainer", (ContractTrainer, Trainer), {})
    trainer = made(model=model, args=TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to=[]))
    trainer._load_from_checkpoint(str(tmp_path / "checkpoint-1"))
    assert {(p.dtype, p.requires_grad) for p in adapter().values()} == {(torch.bfloat16, True)}
    assert saved and all(torch.equal(saved[name], p) for name, p in adapter().items())
