"""GRPO and RLOO: what they write outlives an interruption, bit by bit; what a run reports and keeps for people to read."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from conftest import PROMPTS, configuration, declared_metrics, of_recipe
from gang_of import Attempt, curve, digests

pytestmark = pytest.mark.training
FAULTS = str(Path(__file__).with_name("with_fault.py"))
# Answers are learnt from in 3 steps, saves come at 4 and 8 and a stop at 7: each time inside such a round. 5 prompts are 2 rounds,
# so that from step 7 on it is the second epoch and from 13 on the third. On several ranks the restore skips batches through more layers. The reward draws at random, as dropout and sampling do.
STEPS = 14
PARAMS = {
    "rlhf__algorithm": "grpo",
    "rlhf__reward_functions": "judge.py:lucky,builtin:length",
    "rlhf__num_generations": 2,
    "rlhf__num_iterations": 3,
    "rlhf__samples_every": 3,
    "rlhf__samples": 2,
    "generation__max_new_tokens": 12,
    "train__max_steps": STEPS,
    "train__batch_size": 4,
    "train__learning_rate": 1e-2,
    "train__deterministic": True,
    "checkpoint__every_steps": 4,
    "lora__dropout": 0.1,
}
JUDGE = """
import random

def lucky(completions, topic):
    assert len(topic) == len(completions) and set(topic) <= {"router", "phone"}
    return [random.random() + ("a" in c) for c in completions]
"""


def prompts_of(tmp_path: Path, count: int = 5) -> Path:
    path = tmp_path / "prompts.jsonl"
    path.write_bytes(b"".join(line + b"\n" for line in PROMPTS.read_bytes().splitlines()[:count]))
    return path


def with_judge(a: Attempt, source: str = JUDGE) -> Attempt:
    """As the shim leaves it: the copy of the directory that the run brought."""
    (a.dir / "work").mkdir()
    (a.dir / "work" / "judge.py").write_text(source)
    return a


def rlhf(tiny: Path, tmp_path: Path, count: int = 5, **params) -> dict:
    return configuration(tiny, prompts_of(tmp_path, count), "prompt", "rlhf", **PARAMS | params)


def undisturbed(tmp_path: Path, config: dict, world: int) -> Attempt:
    a = with_judge(Attempt(tmp_path / "calm", 1, config, world))
    assert a.start().wait() == [0] * world, a.logs()
    return a


@pytest.mark.parametrize(
    ("algorithm", "world", "extra"),
    [
        pytest.param("grpo", 1, {}, id="grpo, 1 rank"),
        *[
            pytest.param(*case, marks=pytest.mark.long, id=f"{case[0]}, {case[1]} ranks, {case[2]}")
            for case in [
                ("rloo", 1, {}),
                ("grpo", 2, {"train__batch_size": 2}),
                ("rloo", 2, {"train__batch_size": 2}),
                ("grpo", 1, {"train__batch_size": 2, "train__gradient_accumulation_steps": 2}),
                ("grpo", 1, {"peft": "none", "train__learning_rate": 1e-4}),
                ("rloo", 1, {"train__precision": "bf16"}),
            ]
        ],
    ],
)
def test_killed_stopped_and_killed_again_a_run_ends_with_the_same_bytes(tiny, attempt, tmp_path, algorithm, world, extra):
    config = rlhf(tiny, tmp_path, rlhf__algorithm=algorithm, **extra)
    calm = undisturbed(tmp_path, config, world)
    last = world - 1
    # killed at 6, goes on from 4; asked to stop at 7; killed at 10, goes on from 8
    first = with_judge(attempt(config, world)).start((FAULTS, "die_at_step", str(last), "6"))
    assert first.wait()[last] == -signal.SIGKILL, first.logs()
    second = with_judge(attempt(config, world, first.newest())).start((FAULTS, "signal_at_step", "0", "7"))
    assert second.wait() == [85] * world, second.logs()
    third = with_judge(attempt(config, world, second.newest())).start((FAULTS, "die_at_step", "0", "10"))
    assert third.wait()[0] == -signal.SIGKILL, third.logs()
    fourth = with_judge(attempt(config, world, third.newest())).start()
    assert fourth.wait() == [0] * world, fourth.logs()

    assert [a.metrics()[0]["step"] for a in (first, second, third, fourth)] == [1, 5, 8, 9]
    assert curve(first, second, third, fourth) == curve(calm), "the metrics of every step"
    expected = digests(calm)
    assert digests(fourth) == expected
    names = {Path(p).name for p in expected}
    assert {"scheduler.pt", "trainer_state.json", "optimizer.pt", *(f"rollouts_{r}.pt" for r in range(world))} <= names
    written = {f["path"]: f["rank"] for f in fourth.manifests()[STEPS]["files"] if f["path"].startswith("rollouts_")}
    assert written == {f"rollouts_{r}.pt": r for r in range(world)}
    assert samples(first, second, third, fourth) == samples(calm), "what was kept for people to read"


def samples(*attempts: Attempt) -> dict[int, list[dict]]:
    """By step, of the newest attempt that has it."""
    found: dict[int, list[dict]] = {}
    for a in attempts:
        path, own = a.dir / "samples.jsonl", {}
        for line in path.read_text().splitlines() if path.exists() else ():
            row = json.loads(line)
            del row["time"]
            own.setdefault(row["step"], []).append(row)
        found |= own
    return found


def test_a_restore_that_forgets_something_ends_otherwise(tiny, attempt, tmp_path):
    config = rlhf(tiny, tmp_path)
    calm = undisturbed(tmp_path, config, 1)
    first = with_judge(attempt(config)).start((FAULTS, "die_at_step", "0", "10"))
    first.wait()
    for fault in ("forget_answers", "forget_epoch", "skip_rng"):
        second = with_judge(attempt(config, 1, first.newest())).start((FAULTS, fault, "0", "0"))
        assert second.wait() == [0], second.logs()
        assert curve(first, second) != curve(calm), f"{fault}: the metrics would not have shown it"
        expected, got = digests(calm), digests(second)
        for name in ("output/adapter_model.safetensors", f"checkpoints/checkpoint-{STEPS}/optimizer.pt"):
            assert got[name] != expected[name], f"{fault}: {name} would not have shown it"


@pytest.mark.parametrize("algorithm", ["grpo", pytest.param("rloo", marks=pytest.mark.long)])
def test_it_learns_what_is_rewarded_and_reports_it(tiny, attempt, algorithm):
    params = {
        "rlhf__algorithm": algorithm,
        "rlhf__reward_functions": "builtin:length",
        "rlhf__reward_weights": "-1",
        "rlhf__num_generations": 8,
        "rlhf__samples_every": 5,
        "rlhf__samples": 3,
        "generation__max_new_tokens": 24,
        "train__max_steps": 30,
        "train__batch_size": 32,
        "train__learning_rate": 2e-2,
        "train__lr_scheduler": "constant",
    }
    a = attempt(of_recipe("rlhf", tiny, **params)).start()
    assert a.wait() == [0], a.logs()
    lines = [m["values"] for m in a.metrics()]
    early, late = ([v["completions/mean_length"] for v in part] for part in (lines[:5], lines[-5:]))
    assert sum(late) < 0.8 * sum(early), "answers grow shorter"
    assert lines[-1]["reward"] > lines[0]["reward"] and lines[-1]["kl"] > 0
    own = {"rewards/length/mean", "rewards/length/std"}
    assert set().union(*lines) - own <= declared_metrics("rlhf")
    assert {"kl", "entropy", "reward", "reward_std", "completions/mean_length", "num_tokens", *own} <= set(lines[-1])
    kept = samples(a)
    assert set(kept) == {1, 5, 10, 15, 20, 25, 30} and all(len(rows) == 3 for rows in kept.values())
    row = kept[30][0]
    assert row["prompt"].startswith(("user: ", "system: ")) and "<|im_start|>" not in row["prompt"] + row["completion"]
    assert row["rewards"] == {"length": row["length"] / 100} and row["reward"] == -row["length"] / 100
    assert (a.output / "adapter_model.safetensors").exists()


def test_an_answer_ends_where_the_chat_template_ends_a_turn(tiny):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from forge_train import prompts

    tokenizer, model = AutoTokenizer.from_pretrained(tiny), AutoModelForCausalLM.from_pretrained(tiny)
    ends = [tokenizer.convert_ids_to_tokens(i) for i in prompts.ends(tokenizer, model, True)]
    assert sorted(ends) == ["</s>", "<|im_end|>"]
    assert prompts.ends(tokenizer, model, False) == [tokenizer.eos_token_id]


def test_a_batch_that_is_rolled_back_is_left_out_with_its_answers(tiny, attempt, tmp_path):
    config = rlhf(tiny, tmp_path, metrics__on_nan="roll_back", rlhf__num_iterations=2)
    a = with_judge(attempt(config)).start((FAULTS, "nan_loss", "0", "4"))
    assert a.wait() == [0], a.logs()
    assert "going back to checkpoint-4, the batch of step 5 is skipped" in a.logs()
    assert "reward" in {m["step"]: m["values"] for m in a.metrics()}[6], "answers of its own, not those of an earlier round"
    assert a.status()["skipped_steps"] == [5]
