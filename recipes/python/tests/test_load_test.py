"""The load test: what a run leaves is loaded as a user would, and what cannot be used is told with the reason."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import of_recipe
from gang_of import SRC, Attempt

PARAMS = {"train__max_steps": 2, "train__batch_size": 4, "checkpoint__every_steps": 2}
pytestmark = pytest.mark.training


def run_program(output: Path) -> tuple[int, str, dict]:
    """Exit code, last line and report of a load test of an output, in a process of its own."""
    config = output.parent / "config.json"
    env = {"PYTHONPATH": str(SRC), "PATH": os.environ["PATH"], "FORGE_CONFIG": str(config), "FORGE_OUTPUT_DIR": str(output)}
    env |= {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    config.write_text(config.read_text() if config.exists() else "{}")
    done = subprocess.run(
        [sys.executable, "-m", "forge_train.load_test"],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )
    report = output / "load_test.json"
    last = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""
    return done.returncode, last, json.loads(report.read_text()) if report.exists() else {}


@pytest.fixture(scope="module")
def sft(tiny, tmp_path_factory) -> Attempt:
    a = Attempt(tmp_path_factory.mktemp("sft") / "run", 1, of_recipe("lora_sft", tiny, **PARAMS, output__merge="both"))
    assert a.start().wait() == [0], a.logs()
    return a


def test_an_adapter_and_the_model_beside_it_are_loaded_and_write_the_same(tiny, sft):
    code, last, report = run_program(sft.output)
    assert code == 0, last
    adapter, merged = report["loaded"]
    assert (adapter["path"], adapter["kind"], adapter["base"]) == (".", "adapter", str(tiny))
    assert (merged["path"], merged["kind"]) == ("merged", "model")
    assert 1 <= len(adapter["tokens"]) <= 8 and adapter["tokens"] == merged["tokens"]
    assert report["device"] == "cpu" and report["seconds"] > 0 and "torch" in report["versions"]


def test_it_imports_no_more_than_a_user_has_to(sft):
    code = (
        f"import sys, pathlib; from forge_train import load_test; load_test.check(pathlib.Path({str(sft.output)!r})); "
        "print([m for m in ('trl', 'datasets') if m in sys.modules])"
    )
    env = {"PYTHONPATH": str(SRC), "PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    out = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True, timeout=120)
    assert out.stdout.strip().splitlines()[-1] == "[]"


def test_a_reward_model_scores(tiny, attempt):
    from forge_train import load_test

    a = attempt(of_recipe("reward", tiny, **PARAMS)).start()
    assert a.wait() == [0], a.logs()
    one = load_test.check(a.output)["loaded"][0]
    assert one["kind"] == "reward adapter" and isinstance(one["score"], float)


@pytest.fixture
def copy(sft, tmp_path) -> Path:
    """An adapter that a test may break."""
    to = tmp_path / "attempt" / "output"
    shutil.copytree(sft.output, to, ignore=shutil.ignore_patterns("merged", "load_test.json"))
    return to


def fault(output: Path) -> str:
    from forge_train import load_test

    with pytest.raises(load_test.Unusable) as e:
        load_test.check(output)
    return str(e.value)


def weights(output: Path, change) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(output / "adapter_model.safetensors")
    save_file(change(tensors), output / "adapter_model.safetensors")


def test_what_cannot_be_used_is_told_with_the_reason(copy, tmp_path):
    good = (copy / "adapter_model.safetensors").read_bytes()
    weights(copy, lambda t: {k: v * float("nan") if "lora_B" in k else v for k, v in t.items()})
    assert "logits of the model are not finite" in fault(copy)
    (copy / "adapter_model.safetensors").write_bytes(good)
    weights(copy, lambda t: dict(list(t.items())[1:]))
    assert "the adapter and the model that it is for differ in base_model.model" in fault(copy)
    (copy / "adapter_model.safetensors").write_bytes(good[: len(good) // 2])
    assert "cannot be loaded" in fault(copy)
    (copy / "adapter_model.safetensors").write_bytes(good)
    config = json.loads((copy / "adapter_config.json").read_text())
    (copy / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": "/nowhere"}))
    assert "names the base model /nowhere, which is not a directory" in fault(copy)
    code, last, report = run_program(copy)
    assert code == 87 and last.startswith("adapter_config.json names the base model /nowhere") and not report
    assert "it is no model" in fault(tmp_path)


def test_a_model_that_lacks_weights_is_none(sft, tmp_path):
    from safetensors.torch import load_file, save_file

    to = tmp_path / "output"
    shutil.copytree(sft.output / "merged", to)
    tensors = load_file(to / "model.safetensors")
    tensors.pop("model.norm.weight")
    save_file(tensors, to / "model.safetensors", metadata={"format": "pt"})
    assert "the model has missing keys: model.norm.weight" in fault(to)
