"""PPO, GRPO and RLOO on a real GPU, killed, stopped and gone on with, beside undisturbed runs; one of them over half a billion weights. make test-gpu."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import on_gpu
import pytest
from conftest import declared_metrics, of_recipe
from gang_of import Attempt, curve, digests

pytestmark = pytest.mark.gpu
FAULTS = str(on_gpu.HERE / "with_fault.py")
REWARD = """
def letters(completions):
    return [sum(ord(c) % 7 for c in text) / 100 for text in completions]
"""
# Answers are learnt from in 3 steps (grpo, rloo); the kill goes back to 4 and the stop saves at 6, each inside such a round.
STEPS = 8
PARAMS = {
    "rlhf__reward_functions": "r.py:letters",
    "rlhf__num_generations": 2,
    "rlhf__num_iterations": 3,
    "ppo__mini_batches": 2,
    "ppo__epochs": 2,
    "generation__max_new_tokens": 16,
    "train__max_steps": STEPS,
    "train__batch_size": 4,
    "train__learning_rate": 5e-3,
    "train__warmup_ratio": 0.0,
    "train__deterministic": True,
    "train__precision": "bf16",
    "checkpoint__every_steps": 4,
    "lora__dropout": 0.1,
}
LARGE = {"train__learning_rate": 1e-4, "generation__max_new_tokens": 24, "train__max_length": 512}
# name: algorithm, over the large model, more parameters
CASES = {
    "ppo": ("ppo", False, {}),
    "grpo": ("grpo", False, {}),
    "rloo": ("rloo", False, {}),
    "large ppo": ("ppo", True, LARGE),
    "large grpo": ("grpo", True, LARGE),
}
if on_gpu.DRY:
    CASES = {n: CASES[n] for n in ("rloo", "large ppo")}


@pytest.fixture(scope="module")
def runs(tiny, tmp_path_factory) -> dict[str, dict]:
    """Of each case the undisturbed run and the three attempts of the other, all cases at once. An attempt that ended otherwise ends its case."""
    root = tmp_path_factory.mktemp("rlhf")
    counted = Path(os.environ.get("FORGE_GPU_COUNTED") or root)
    base = on_gpu.big(counted / "base")
    cases = {n: of_recipe("rlhf", base if large else tiny, **PARAMS | more, rlhf__algorithm=a) for n, (a, large, more) in CASES.items()}

    def made(name: str, run: str, number: int, resume: Path | None = None) -> Attempt:
        a = Attempt(root / f"{name.replace(' ', '-')}-{run}", number, cases[name], 1, resume)
        (a.dir / "work").mkdir()
        (a.dir / "work" / "r.py").write_text(REWARD)
        return a

    def ended(attempts: dict[str, Attempt], code: int) -> None:
        for name, a in attempts.items():
            if a.wait(240) != [code]:
                out[name]["wrong"] = f"ended with {[r.poll() for r in a.ranks]}, not {code}\n{a.logs()}"

    def going() -> list[str]:
        return [n for n in cases if "wrong" not in out[n]]

    out: dict[str, dict] = {n: {"killed": [made(n, "run", 1)], "calm": made(n, "calm", 1)} for n in cases}
    calm = {n: on_gpu.watched(out[n]["calm"], "rlhf") for n in cases}
    ended({n: on_gpu.begin(out[n]["killed"][0], FAULTS, "die_at_step", "0", "5") for n in cases}, -signal.SIGKILL)
    for number, (code, *fault) in ((2, (85, FAULTS, "term_at_step", "0", "6")), (3, (0, FAULTS, "term_at_step", "1", "0"))):
        more = {n: made(n, "run", number, out[n]["killed"][-1].newest()) for n in going()}
        for n, a in more.items():
            out[n]["killed"].append(on_gpu.begin(a, *fault))
        ended(more, code)
    ended(calm, 0)
    for name, (algorithm, large, more) in CASES.items():
        if large and "wrong" not in out[name]:
            params = {k.replace("__", "."): v for k, v in (PARAMS | more).items()} | {"rlhf.algorithm": algorithm}
            seen = on_gpu.seen(out[name]["calm"].dir)
            (counted / f"rlhf_{algorithm}.json").write_text(json.dumps({"recipe": "rlhf", "params": params, "kind": "prompt", "peak": seen["peak"], "device": seen["device"]}))
    return out


def whole(runs, name: str) -> tuple[Attempt, list[Attempt]]:
    if "wrong" in runs[name]:
        pytest.fail(runs[name]["wrong"], pytrace=False)
    return runs[name]["calm"], runs[name]["killed"]


@pytest.mark.parametrize("name", CASES)
def test_it_ran_where_it_should_and_learnt_something(runs, name):
    calm, _ = whole(runs, name)
    lines = [m["values"] for m in calm.metrics()]
    print(f"{name}: {on_gpu.seen(calm.dir)}; last metrics {lines[-1]}")
    assert len(lines) == STEPS and any(v["grad_norm"] > 0 for v in lines if "grad_norm" in v)
    assert set(lines[-1]) - declared_metrics("rlhf") <= {"rewards/letters/mean", "rewards/letters/std"}
    if not on_gpu.DRY:
        assert any(key.startswith("gpu/") for key in lines[-1])


@pytest.mark.parametrize("name", CASES)
def test_killed_and_stopped_it_ends_as_the_undisturbed_one(runs, name):
    calm, killed = whole(runs, name)
    assert [a.metrics()[0]["step"] for a in killed] == [1, 5, 7]
    was, now = curve(calm), curve(*killed)
    differ = {(s, k): abs(was[s][k] - now[s].get(k, float("nan"))) for s in was for k in was[s] if was[s][k] != now[s].get(k)}
    files, got = digests(calm), digests(killed[-1])
    other = [f for f in files if got.get(f) != files[f]]
    print(f"{name}: {len(differ)} of {sum(map(len, was.values()))} numbers differ, at most by {max(differ.values(), default=0):g}; {len(other)} of {len(files)} files differ: {other}")
    for f in other:
        if f.endswith(".safetensors"):
            print(f"  {f}: largest difference of a weight {distance(calm.dir / f, killed[-1].dir / f):g}")
    assert sorted(was) == sorted(now) == list(range(1, STEPS + 1))
    assert not differ and not other, f"first: {min(differ, default='')}"


def distance(a: Path, b: Path) -> float:
    from safetensors.torch import load_file

    x, y = load_file(a), load_file(b)
    return max((x[n].float() - y[n].float()).abs().max().item() for n in x)


def test_vllm_on_a_gpu_without_it_is_refused_with_what_to_install(tiny, attempt):
    params = PARAMS | {"rlhf__algorithm": "grpo", "rlhf__reward_functions": "builtin:length", "generation__backend": "vllm"}
    a = on_gpu.begin(attempt(of_recipe("rlhf", tiny, **params)))
    assert a.wait(120) == [87], a.logs()
    print(a.status()["message"])
    for word in ("needs a GPU",) if on_gpu.DRY else ("needs the package vllm", "pip install 'trl[vllm]'", "generation.backend=hf"):
        assert word in a.status()["message"]
