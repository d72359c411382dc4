"""Evals that cannot lie: what counts is in files, newer than the start, whole, and of the suite that was pinned."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from gang_of import RUN_ID, SRC, Attempt

from forge_train import evaluate, scores, subject, suite
from forge_train.outcome import BAD_INPUT, CHECKPOINTED, FAILED, NODE_ENV, OK, BadInput

OFFLINE = ("default-offline", "safety-offline", "quality-offline", "reasoning-offline")
FAULTS = str(Path(__file__).with_name("eval_fault.py"))


def config(tiny: Path, name: str = "reasoning-offline", path: Path | None = None, **params) -> dict:
    root = path or suite.BUILTIN / name
    pinned = {"name": name, "sha256": suite.digest(root)} | ({"path": str(path)} if path else {})
    return {
        "run_id": RUN_ID,
        "recipe": "evaluate",  # what the tests start: the module's name
        "params": {k.replace("__", "."): v for k, v in params.items()},
        "model": {"name": "tiny@1", "sha256": "aa", "path": str(tiny)},
        "suite": pinned,
    }


def found(a: Attempt) -> dict:
    return json.loads((a.output / "scores.json").read_text())


def values(doc: dict) -> dict[tuple, float]:
    return {(t["task"], s["metric"], s["filter"]): s["value"] for t in doc["tasks"] for s in t["scores"]}


def ended(a: Attempt, code: int) -> str:
    assert a.wait() == [code], a.logs()
    return a.status()["message"]


@pytest.fixture
def own_suite(tmp_path):
    """A copy of a built-in suite, to be changed: a site's own."""
    return shutil.copytree(suite.BUILTIN / "reasoning-offline", tmp_path / "suites" / "mine")


@pytest.mark.training
@pytest.mark.parametrize("name", [OFFLINE[0], *(pytest.param(n, marks=pytest.mark.long) for n in OFFLINE[1:])])
def test_a_suite_gives_what_bare_lm_eval_gives(name, tiny, attempt, tmp_path):
    a = attempt(config(tiny, name)).start()
    assert a.wait() == [OK], a.logs()
    doc, lines = found(a), [json.loads(x) for x in (a.output / "samples.jsonl").read_text().splitlines()]
    assert values(doc) == pytest.approx(bare(name, tiny, tmp_path), abs=1e-12)
    assert doc["limit"] == 0 and all(t["n_samples"]["original"] == t["n_samples"]["effective"] > 0 for t in doc["tasks"])
    assert len(lines) == doc["samples"]["count"] == sum(t["n_samples"]["effective"] for t in doc["tasks"])
    assert set(lines[0]) == {
        "task", "filter", "doc_id", "doc_hash", "prompt_hash", "target_hash", "metrics", "target", "response", "prompt",
    }
    assert a.status()["step"] == a.status()["total_steps"] == len(lines)
    assert list((a.output / "lm_eval").glob("*/model/results_*.json")), "lm-eval's own files are part of the output"


def bare(name: str, tiny: Path, tmp_path: Path) -> dict[tuple, float]:
    """The same tasks by lm-eval's own command."""
    include = tmp_path / "include"
    root = shutil.copytree(suite.BUILTIN / name, include / name)
    (root / "suite.yaml").unlink()
    for f in root.glob("*.yaml"):
        f.write_text(f.read_text().replace(f"test: {f.stem}.jsonl", f"test: {root}/{f.stem}.jsonl"))
    tasks = list(suite.read({"suite": {"name": name}}).own)
    command = [sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--model_args", f"pretrained={tiny}", "--tasks", *tasks]
    command += ["--include_path", str(include), "--output_path", str(tmp_path / "bare"), "--log_samples", "--device", "cpu"]
    env = os.environ | {"HF_DATASETS_OFFLINE": "1", "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf"), "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, "--batch_size", "8"], env=env, check=True, timeout=120, capture_output=True)
    doc = json.loads(next((tmp_path / "bare").rglob("results_*.json")).read_text())
    return {
        (task, *key.split(",")): v
        for task, of in doc["results"].items()
        for key, v in of.items()
        if "," in key and "_stderr," not in key
    }
