"""A model that is split over the ranks (FSDP2), over gloo on CPUs."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from conftest import of_recipe
from gang_of import Attempt, curve, digests

FAULTS = str(Path(__file__).with_name("with_fault.py"))
pytestmark = pytest.mark.training
PARAMS = {
    "train__max_steps": 8,
    "train__batch_size": 2,
    "train__learning_rate": 1e-2,
    "train__deterministic": True,
    "checkpoint__every_steps": 4,
}
SPLIT = {"train__parallel": "fsdp"}


@pytest.fixture(scope="module")
def split(tiny, tmp_path_factory) -> Attempt:
    """An undisturbed run of two ranks that hold half of the model each."""
    a = Attempt(tmp_path_factory.mktemp("split") / "run", 1, of_recipe("lora_sft", tiny, **PARAMS | SPLIT), 2)
    assert a.start().wait() == [0, 0], a.logs()
    return a


def test_a_split_model_learns_what_a_whole_one_learns(tiny, attempt, split):
    whole = attempt(of_recipe("lora_sft", tiny, **PARAMS), 2).start()
    assert whole.wait() == [0, 0], whole.logs()
    for step, values in curve(whole).items():
        assert curve(split)[step] == pytest.approx(values, rel=1e-4, abs=1e-5), f"step {step}"
    assert {p.name for p in split.output.iterdir()} == {p.name for p in whole.output.iterdir()}


def test_each_rank_writes_its_part_of_a_checkpoint_and_the_manifest_names_all(split):
    manifest = json.loads((split.newest() / "forge_manifest.json").read_text())
    names = {f["path"] for f in manifest["files"]}
    for part in ("pytorch_model_fsdp_0", "optimizer_0"):
        assert {f"{part}/__0_0.distcp", f"{part}/__1_0.distcp", f"{part}/.metadata"} <= names
    assert {"rng_state_0.pth", "rng_state_1.pth", "scheduler.pt", "trainer_state.json"} <= names
    sizes = [f["size"] for f in manifest["files"] if f["path"].startswith("optimizer_0/__")]
    assert min(sizes) > max(sizes) / 2, f"the halves are halves: {sizes}"


def test_one_ranks_death_ends_the_gang_and_as_many_ranks_go_on_from_their_parts(tiny, attempt, split):
    config = of_recipe("lora_sft", tiny, **PARAMS | SPLIT)
    first = attempt(config, 2).start((FAULTS, "die_at_step", "1", "6"))
    assert first.wait(60) == [89, -signal.SIGKILL], first.logs()
    second = attempt(config, 2, first.newest()).start()
    assert second.wait() == [0, 0], second.logs()
    assert second.metrics()[0]["step"] == 5
    assert curve(first, second) == curve(split)
    assert digests(second) == digests(split)


def test_one_rank_has_nothing_to_split(tiny, attempt):
    a = attempt(of_recipe("lora_sft", tiny, **PARAMS | SPLIT)).start()
    assert a.wait() == [87], a.logs()
    assert "train.parallel is fsdp" in a.status()["message"] and "this run has one" in a.status()["message"]


def test_a_checkpoint_of_a_split_model_is_refused_by_a_whole_one(tiny, attempt, split):
    a = attempt(of_recipe("lora_sft", tiny, **PARAMS), 1, split.newest()).start()
    assert a.wait() == [87], a.logs()
    assert "was saved with train.parallel=fsdp" in a.status()["message"]


def test_another_number_of_ranks_goes_on_with_a_whole_model_and_says_that_it_is_not_exact(tiny, attempt):
    short = PARAMS | {"train__max_steps": 4, "checkpoint__every_steps": 2}
    first = attempt(of_recipe("lora_sft", tiny, **short), 2).start()
    assert first.wait() == [0, 0], first.logs()
    assert "the checkpoint is of" not in first.logs()
    config = of_recipe("lora_sft", tiny, **short | {"train__max_steps": 8})
    for world in (1, 2, 3):
        a = attempt(config, world, first.newest()).start()
        assert a.wait() == [0] * world, a.logs()
        assert a.metrics()[0]["step"] == 5
        said = f"the checkpoint is of 2 ranks and these are {world}: from here on each sees other batches"
        assert (a.logs().count(said) == 1) == (world != 2), a.logs()


@pytest.mark.long
def test_another_number_of_ranks_reads_the_parts_of_a_split_model(tiny, attempt, split):
    a = attempt(of_recipe("lora_sft", tiny, **PARAMS | SPLIT | {"train__max_steps": 12}), 3, split.newest()).start()
    assert a.wait() == [0, 0, 0], a.logs()
    assert "the checkpoint is of 2 ranks and these are 3" in a.logs()
    assert a.metrics()[0]["step"] == 9
    assert a.metrics()[0]["values"]["loss"] < split.metrics()[1]["values"]["loss"], "it goes on from what was learnt"
    assert (a.newest() / "optimizer_0" / "__2_0.distcp").is_file()


@pytest.mark.long
@pytest.mark.parametrize("recipe", ["lora_sft", "dpo", "reward"])
@pytest.mark.parametrize(
    "extra",
    [
        {"peft": "none", "train__learning_rate": 1e-3},
        {"peft": "none", "train__learning_rate": 1e-3, "train__precision": "bf16"},
        {"train__gradient_checkpointing": True},
        {"train__gradient_accumulation_steps": 2},
    ],
    ids=lambda e: ",".join(k.removeprefix("train__") for k in e),
)
def test_every_recipe_learns_the_same_split_and_whole(tiny, attempt, recipe, extra):
    curves = []
    for more in ({}, SPLIT):
        a = attempt(of_recipe(recipe, tiny, **PARAMS | {"train__max_steps": 4} | extra | more), 2).start()
        assert a.wait() == [0, 0], a.logs()
        curves.append(curve(a))
    tolerance = 0.05 if extra.get("train__precision") == "bf16" else 1e-3
    for step, values in curves[0].items():
        assert curves[1][step]["loss"] == pytest.approx(values["loss"], rel=tolerance, abs=tolerance), f"step {step}"
