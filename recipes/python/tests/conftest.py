"""Fixtures: the tiny model, the shipped dataset, runs below short temporary directories."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from gang_of import RUN_ID, SRC, Attempt

from forge_train.rundir import RunDir

DATA = SRC.parent / "data" / "support_chat.jsonl"
PAIRS = SRC.parent / "data" / "support_preference.jsonl"
PROMPTS = SRC.parent / "data" / "support_prompts.jsonl"


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Path:
    """The tiny base model, made as a user makes it."""
    path = tmp_path_factory.mktemp("base") / "tiny"
    env = os.environ | {"PYTHONPATH": str(SRC), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-m", "forge_train.tiny", path], env=env, check=True, timeout=120)
    return path


@pytest.fixture
def configure(tiny):
    """config(**params): a configuration over the tiny model and the shipped dataset."""
    return lambda **overrides: configuration(tiny, **overrides)


def configuration(
    base: Path, dataset: Path = DATA, kind: str = "messages", recipe: str = "lora_sft", **params
) -> dict:
    """A config.json; parameters are given with __ for the dot."""
    return {
        "run_id": RUN_ID,
        "run_number": 1,
        "recipe": recipe,
        "params": {k.replace("__", "."): v for k, v in params.items()},
        "dataset": {"name": "chat@1", "path": str(dataset)},
        "dataset_kind": kind,
        "base": {"name": "tiny@1", "path": str(base)},
    }


def of_recipe(recipe: str, base: Path, **params) -> dict:
    """A config.json of any recipe, over the dataset that is shipped for it."""
    if recipe == "lora_sft":
        return configuration(base, **params)
    if recipe == "rlhf":
        return configuration(base, PROMPTS, "prompt", recipe, **params)
    return configuration(base, PAIRS, "preference", recipe, **params)


def declared_metrics(recipe: str) -> set[str]:
    """Names of what a recipe's file says that it reports, with its fragments'."""
    recipes = SRC.parents[1]
    own = yaml.safe_load((recipes / f"{recipe}.yaml").read_text())
    files = [own, *(yaml.safe_load((recipes / "fragments" / f"{name}.yaml").read_text()) for name in own["include"])]
    return {m["name"] for f in files for m in f.get("metrics", ())}


@pytest.fixture
def attempt(tmp_path):
    """attempt(config, world, resume): the next attempt of this test's run, not yet started."""
    made: list[Attempt] = []

    def make(config: dict, world: int = 1, resume: Path | None = None) -> Attempt:
        made.append(Attempt(tmp_path / "run", len(made) + 1, config, world, resume))
        return made[-1]

    yield make
    for a in made:
        a.kill()


@pytest.fixture
def run(tmp_path) -> RunDir:
    attempt = tmp_path / "01J" / "attempts" / "0002"
    (attempt / "checkpoints").mkdir(parents=True)
    (tmp_path / "01J" / "fence").write_text("2\n")
    (attempt / "config.json").write_text("{}")
    return RunDir.from_environment({"FORGE_CONFIG": str(attempt / "config.json"), "FORGE_ATTEMPT": "2"})


@pytest.fixture
def small_disk(tmp_path):
    """A filesystem of 8 MiB of its own (this needs root)."""
    path = tmp_path / "disk"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", path], check=True, timeout=30)
    yield path
    subprocess.run(["umount", "-l", path], check=True, timeout=30)
