"""The offline suites on a real GPU: the scores of a CPU, and in bf16 over half a billion weights those of bare lm_eval. make test-gpu."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import on_gpu
import pytest
from gang_of import Attempt
from test_evaluate import OFFLINE, config, found, values

from forge_train import suite

pytestmark = pytest.mark.gpu
LARGE = "reasoning-offline"
BARE = """
import json, sys
import lm_eval
from lm_eval.tasks import TaskManager

base, include, device, tasks = sys.argv[1:5]
manager = TaskManager(include_path=include, include_defaults=False)
done = lm_eval.simple_evaluate(
    model="hf", model_args={"pretrained": base, "dtype": "bfloat16"}, tasks=tasks.split(","), device=device, batch_size=8,
    task_manager=manager, random_seed=1234, numpy_random_seed=1234, torch_random_seed=1234, fewshot_random_seed=1234,
)
print(json.dumps([[t, *k.split(","), v] for t, of in done["results"].items() for k, v in of.items() if "," in k and "_stderr," not in k]))
"""


@pytest.fixture(scope="module")
def evals(tiny, tmp_path_factory) -> dict[tuple[str, str], Attempt]:
    """Every suite on both, all at once, and one over the large model."""
    root = tmp_path_factory.mktemp("evals")
    counted = Path(os.environ.get("FORGE_GPU_COUNTED") or root)
    base = on_gpu.big(counted / "base")
    out = {}
    for name in OFFLINE:
        for device in ("cpu", "cuda"):
            a = Attempt(root / f"{name}-{device}", 1, config(tiny, name, eval__dtype="fp32"))
            out[name, device] = a.start(new_interpreter=True) if device == "cpu" else on_gpu.begin(a)
    out["large", "cuda"] = on_gpu.begin(Attempt(root / "large", 1, config(base, LARGE, eval__dtype="bf16")))
    for a in out.values():
        a.wait(240)
    return out


def scores(evals, name: str, device: str) -> dict:
    a = evals[name, device]
    assert [r.poll() for r in a.ranks] == [0], a.logs()
    return found(a)


@pytest.mark.parametrize("name", OFFLINE)
def test_a_suite_scores_on_a_gpu_what_it_scores_on_a_cpu(evals, name):
    cpu, gpu = scores(evals, name, "cpu"), scores(evals, name, "cuda")
    assert cpu["device"] == "cpu" and gpu["device"] == ("cpu" if on_gpu.DRY else "cuda")
    least = min(t["n_samples"]["effective"] for t in cpu["tasks"])
    a, b = values(cpu), values(gpu)
    worst = max(abs(a[k] - b[k]) for k in a)
    print(f"{name}: {len(a)} scores, largest difference {worst:g} (one sample of the smallest task is {1 / least:g}); {cpu['seconds']} s and {gpu['seconds']} s")
    assert set(a) == set(b) and worst <= 1 / least + 1e-9, "at most one sample may fall on the other side of a tie"


def test_over_half_a_billion_weights_in_bf16_it_scores_what_bare_lm_eval_scores(evals, tmp_path):
    ours = scores(evals, "large", "cuda")
    assert ours["dtype"] == "bfloat16"
    include = tmp_path / "include"
    include.mkdir()
    for f in (suite.BUILTIN / LARGE).glob("*"):
        text = f.read_text().replace(f"test: {f.stem}.jsonl", f"test: {include}/{f.stem}.jsonl")
        if f.name != "suite.yaml":
            (include / f.name).write_text(text)
    tasks = ",".join(suite.read({"suite": {"name": LARGE}}).own)
    env = os.environ | {"HF_DATASETS_OFFLINE": "1", "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf"), "CUDA_VISIBLE_DEVICES": "" if on_gpu.DRY else "0"}
    base = json.loads((evals["large", "cuda"].dir / "config.json").read_text())["model"]["path"]
    done = subprocess.run([sys.executable, "-c", BARE, base, str(include), "cpu" if on_gpu.DRY else "cuda:0", tasks], env=env, capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stderr[-3000:]
    bare = {tuple(k): v for *k, v in json.loads(done.stdout.splitlines()[-1])}
    got = values(ours)
    print(f"large: {got}; bare {bare}; {ours['seconds']} s")
    assert got == pytest.approx(bare, abs=1e-9)
