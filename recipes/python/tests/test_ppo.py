"""PPO learns, ends as any recipe does, and an interrupted run of it ends with the same bytes as an undisturbed one."""

from __future__ import annotations

import json
import math
import shutil
import signal
from pathlib import Path

import pytest
import yaml
from conftest import DATA, configuration, declared_metrics
from gang_of import SRC, Attempt, curve, digests

from forge_train import ppo

FAULTS = str(Path(__file__).with_name("with_fault.py"))
REWARD = """
def vowels(completions):
    return [sum(c in "aeiou" for c in text) / 10 for text in completions]
"""
# a warm-up would leave the first update without a trace; dropout and two mini batches, so that both random states matter
PARAMS = {
    "train__max_steps": 6,
    "train__batch_size": 2,
    "train__learning_rate": 5e-3,
    "train__warmup_ratio": 0.0,
    "train__deterministic": True,
    "lora__dropout": 0.1,
    "ppo__mini_batches": 2,
    "ppo__epochs": 2,
    "generation__max_new_tokens": 8,
    "rlhf__reward_functions": "r.py:vowels",
    "checkpoint__every_steps": 2,
}


@pytest.fixture(scope="module")
def asked(tmp_path_factory) -> Path:
    """A dataset of prompts: what the users of the shipped conversations ask first. 18 of them, so that 4 updates end an epoch."""
    path = tmp_path_factory.mktemp("prompts") / "asked.jsonl"
    talks = [json.loads(line)["messages"] for line in DATA.read_text().splitlines()]
    first = list(dict.fromkeys(next(m["content"] for m in talk if m["role"] == "user") for talk in talks))
    path.write_text("".join(json.dumps({"prompt": [{"role": "user", "content": text}]}) + "\n" for text in first[:18]))
    return path


@pytest.fixture
def rlhf(tiny, asked):
    """rlhf(**params): a configuration of PPO."""
    return lambda **params: configuration(tiny, asked, "prompt", "rlhf", **PARAMS | params)


def brings(a: Attempt) -> Attempt:
    """The attempt, with the directory that the run brought."""
    work = a.dir / "work"
    work.mkdir()
    (work / "r.py").write_text(REWARD)
    return a


@pytest.fixture
def tried(attempt):
    """tried(config, world, resume): the next attempt of a run that brings its reward function."""
    return lambda *args: brings(attempt(*args))


def undisturbed(tmp_path: Path, config: dict, world: int = 1) -> Attempt:
    a = brings(Attempt(tmp_path / "calm", 1, config, world))
    assert a.start().wait() == [0] * world, a.logs()
    return a


def test_the_fragment_and_the_table_name_the_same_parameters():
    fragment = yaml.safe_load((SRC.parents[1] / "fragments" / "ppo.yaml").read_text())
    kinds = {"int": int, "float": float, "bool": bool, "enum": str}
    theirs = [
        (p["name"], kinds[p["type"]], p["default"], p.get("min"), p.get("max"), tuple(p.get("enum", ())))
        for p in fragment["params"]
    ]
    assert theirs == [(p.name, p.kind, p.default, p.low, p.high, p.choices) for p in ppo.PPO]
    assert all(p["doc"] for p in fragment["params"])


@pytest.mark.training
def test_what_is_rewarded_grows(tried, rlhf):
    a = tried(
        rlhf(
            train__max_steps=12,
            train__batch_size=16,
            train__learning_rate=2e-2,
            train__lr_scheduler="constant",
            ppo__mini_batches=1,
            ppo__epochs=4,
            ppo__kl_coef=0.0,
            ppo__gamma=0.9,
            ppo__lam=0.9,
            lora__dropout=0.0,
            checkpoint__every_steps=100,
        )
    ).start()
    assert a.wait() == [0], a.logs()
    lines = [m["values"] for m in a.metrics()]
    first, last = (math.fsum(v["objective/scores"] for v in some) / 3 for some in (lines[:3], lines[-3:]))
    assert last > 1.3 * first, f"{first} became {last}"
    assert lines[-1]["objective/kl"] > 0, "the policy has left the reference"
    assert lines[-1]["episode"] == 12 * 16
    undeclared = set(lines[-1]) - declared_metrics("rlhf")
    assert undeclared == {"rewards/vowels/mean", "rewards/vowels/std"}, "the names of functions are the user's"
    left = {p.name for p in a.output.iterdir()}
    assert {"adapter_model.safetensors", "adapter_config.json", "tokenizer.json"} <= left
    assert not left & {"value.safetensors", "ppo.json"}, "the value model is no part of what a run leaves"


SHAPES = [
    pytest.param(1, {}, id="1 rank"),
    *[
        pytest.param(*case, marks=pytest.mark.long, id=f"{case[0]} ranks, {case[1]}")
        for case in [
            (2, {}),
            (1, {"peft": "none", "train__learning_rate": 1e-4}),
            (2, {"train__gradient_accumulation_steps": 2, "ppo__mini_batches": 1}),
            (1, {"train__gradient_checkpointing": True, "ppo__whiten_rewards": True, "ppo__missing_eos_penalty": 1.0}),
            (1, {"train__batch_size": 5, "ppo__mini_batches": 1, "generation__top_p": 0.9, "ppo__rollout_batch_size": 2}),
        ]
    ],
]


@pytest.mark.training
@pytest.mark.parametrize(("world", "extra"), SHAPES)
def test_killed_stopped_and_killed_again_a_run_ends_with_the_same_bytes(tried, rlhf, tmp_path, world, extra):
    config = rlhf(**extra)
    calm = undisturbed(tmp_path, config, world)
    last = world - 1
    # killed at 3, goes on from 2; asked to stop at 4 or 5; killed after 5, goes on from there
    first = tried(config, world).start((FAULTS, "die_at_step", str(last), "3"))
    assert first.wait()[last] == -signal.SIGKILL, first.logs()
    second = tried(config, world, first.newest()).start((FAULTS, "term_at_step", "0", "3"))
    assert second.wait() == [85] * world, second.logs()
    third = tried(config, world, second.newest()).start((FAULTS, "die_at_step", "0", "5"))
    assert third.wait()[0] == -signal.SIGKILL, third.logs()
    fourth = tried(config, world, third.newest()).start()
    assert fourth.wait() == [0] * world, fourth.logs()

    assert [a.metrics()[0]["step"] for a in (first, second, third, fourth)] == [1, 3, 4, 5]
    assert curve(first, second, third, fourth) == curve(calm), "the metrics of every step"
    expected = digests(calm)
    assert digests(fourth) == expected
    names = {Path(p).name for p in expected}
    assert {"value.safetensors", "ppo.json", "optimizer.pt", "scheduler.pt", "trainer_state.json"} <= names
    assert any(n.startswith("rng_state") for n in names) and names & {"adapter_model.safetensors", "model.safetensors"}
    assert "resume" not in fourth.status(), "nothing is missing, so nothing is said"


@pytest.mark.training
@pytest.mark.parametrize(
    "fault",
    ["skip_value", *(pytest.param(f, marks=pytest.mark.long) for f in ("skip_rng", "skip_sampler", "skip_optimizer"))],
)
def test_a_restore_that_forgets_something_ends_otherwise(tried, rlhf, tmp_path, fault):
    config = rlhf(train__max_steps=4)
    calm = undisturbed(tmp_path, config)
    first = tried(config).start((FAULTS, "die_at_step", "0", "3"))
    first.wait()
    second = tried(config, 1, first.newest()).start((FAULTS, fault, "0", "0"))
    assert second.wait() == [0], second.logs()
    assert curve(first, second) != curve(calm), "the metrics would not have shown it"
    expected, got = digests(calm), digests(second)
    for name in ("output/adapter_model.safetensors", "checkpoints/checkpoint-4/value.safetensors"):
        assert got[name] != expected[name], f"{name} would not have shown it"


@pytest.mark.training
def test_what_a_checkpoint_lacks_is_said_and_not_passed_over(tried, rlhf):
    config = rlhf(train__max_steps=3, checkpoint__every_steps=2)
    first = tried(config).start()
    assert first.wait() == [0], first.logs()
    torn = first.run_dir / "torn" / "checkpoint-2"
    shutil.copytree(first.checkpoints / "checkpoint-2", torn)
    (torn / "value.safetensors").unlink()
    (torn / "rng_state.pth").unlink()
    second = tried(config, 1, torn).start()
    assert second.wait() == [0], second.logs()
    assert second.status()["resume"] == "partial"
    assert second.status()["not_restored"] == ["value model", "random state"]
    assert "resume: partial: checkpoint-2 has no value model and no random state" in second.logs()
    assert second.metrics()[0]["values"]["episode"] == first.metrics()[2]["values"]["episode"], "the rest was restored"


@pytest.mark.training
def test_a_stop_file_saves_at_the_end_of_the_update_and_ends_with_85(tried, rlhf):
    a = tried(rlhf(train__max_steps=1000, checkpoint__every_steps=1000)).start()
    a.until_step(2)
    (a.dir / "stop").write_text('{"signal": "checkpoint"}\n')
    assert a.wait() == [85], a.logs()
    step = a.status()["step"]
    assert a.newest().name == f"checkpoint-{step}" and a.metrics()[-1]["step"] == step
    assert {"value.safetensors", "ppo.json", "rng_state.pth"} <= {f["path"] for f in a.manifests()[step]["files"]}


@pytest.mark.training
def test_a_loss_that_is_no_number_ends_with_90_and_saves_nothing_of_it(tried, rlhf):
    a = tried(rlhf()).start((FAULTS, "nan_in_update", "0", "2"))
    assert a.wait() == [90], a.logs()
    assert a.status()["reason"] == "nan" and set(a.manifests()) == {2}


@pytest.mark.training
@pytest.mark.long
def test_a_loss_that_is_no_number_rolls_back_where_that_is_wanted(tried, rlhf):
    a = tried(rlhf(metrics__on_nan="roll_back")).start((FAULTS, "nan_in_update", "0", "2"))
    assert a.wait() == [0], a.logs()
    assert a.status()["skipped_steps"] == [3]
    assert a.metrics()[-1]["values"]["episode"] == 5 * 4, "what was skipped was not written"


@pytest.mark.training
@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"train__batch_size": 10, "ppo__mini_batches": 2}, "18 prompts and one update takes 20"),
        ({"generation__max_new_tokens": 250}, "the prompt has"),
    ],
)
def test_what_cannot_work_is_bad_input(tried, rlhf, params, said):
    a = tried(rlhf(**params)).start()
    assert a.wait() == [87], a.logs()
    assert said in a.status()["message"]


def judge(tiny: Path, to: Path, kind: str) -> dict:
    """A reward model over tiny whose head and adapter are no new ones; what the configuration says of it."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, set_seed

    set_seed(7)
    model = AutoModelForSequenceClassification.from_pretrained(tiny, num_labels=1)
    if kind == "adapter":
        model = get_peft_model(model, LoraConfig(task_type="SEQ_CLS", r=4, target_modules="all-linear"))
    with torch.no_grad():
        for p in model.parameters():
            if p.requires_grad:
                p.add_(torch.randn_like(p) * 0.02)
    model.save_pretrained(to)
    AutoTokenizer.from_pretrained(tiny).save_pretrained(to)
    return {"name": "judge@1", "path": str(to)} | ({"base": {"path": str(tiny)}} if kind == "adapter" else {})


@pytest.mark.training
@pytest.mark.parametrize(
    ("kind", "peft"),
    [("adapter", "lora"), *(pytest.param(k, p, marks=pytest.mark.long) for k, p in (("adapter", "none"), ("whole", "lora"), ("whole", "none")))],
)
def test_the_value_model_begins_as_the_reward_model_and_the_policy_as_the_base(tiny, tried, rlhf, tmp_path, kind, peft):
    import torch
    from peft import AutoPeftModelForSequenceClassification
    from safetensors.torch import load_file
    from transformers import AutoModelForSequenceClassification

    config = rlhf(train__learning_rate=0.0, train__max_steps=1, rlhf__reward_functions="", lora__dropout=0.0, peft=peft)
    config["reward_model"] = judge(tiny, tmp_path / "judge", kind)
    a = tried(config).start()
    assert a.wait() == [0], a.logs()
    assert a.metrics()[0]["values"]["rewards/model/mean"] == pytest.approx(a.metrics()[0]["values"]["objective/scores"])
    got = load_file(a.newest() / "value.safetensors")
    if kind == "adapter":
        reward = AutoPeftModelForSequenceClassification.from_pretrained(tmp_path / "judge", num_labels=1, is_trainable=True)
    else:
        reward = AutoModelForSequenceClassification.from_pretrained(tmp_path / "judge", num_labels=1)
    if peft == "lora" and kind == "adapter":
        expected = {n: p for n, p in reward.named_parameters() if p.requires_grad}
        assert set(got) == set(expected), "it is the reward model's adapter that goes on learning"
    else:
        whole = reward.merge_and_unload() if kind == "adapter" else reward
        expected = dict(whole.named_parameters())
    if peft == "lora" and kind == "whole":
        heads = [n for n in got if "score" in n]
        assert len(heads) == 1 and torch.equal(got[heads[0]], expected["score.weight"])
    else:
        assert all(torch.allclose(got[n], expected[n], atol=1e-6) for n in got) and set(got) == set(expected)


@pytest.mark.training
def test_a_reward_model_over_another_base_only_scores(tiny, tried, rlhf, tmp_path):
    import torch
    from safetensors.torch import load_file

    other = tmp_path / "other"
    shutil.copytree(tiny, other)
    config = rlhf(train__learning_rate=0.0, train__max_steps=1, rlhf__reward_functions="")
    config["reward_model"] = judge(other, tmp_path / "judge", "adapter")
    a = tried(config).start()
    assert a.wait() == [0], a.logs()
    theirs = load_file(tmp_path / "judge" / "adapter_model.safetensors")["base_model.model.score.weight"]
    ours = next(t for n, t in load_file(a.newest() / "value.safetensors").items() if "score" in n)
    assert not torch.equal(ours, theirs), "a head that was learnt over other weights would mean nothing"
