"""What a run leaves: merged or not, and its card."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
import yaml
from conftest import of_recipe
from gang_of import Attempt
from test_start import apart, logits

from forge_train import card
from forge_train.rundir import RunDir

FAULTS = str(Path(__file__).with_name("with_fault.py"))
PARAMS = {"train__max_steps": 4, "train__batch_size": 4, "train__learning_rate": 1e-2, "checkpoint__every_steps": 2}
WEIGHTS = {"adapter_model.safetensors", "model.safetensors"}


def weights(of: Path) -> set[str]:
    return {p.relative_to(of).as_posix() for p in of.rglob("*.safetensors")}


@pytest.mark.training
@pytest.mark.parametrize(
    ("recipe", "world", "extra"),
    [("lora_sft", 1, {}), ("lora_sft", 2, {"train__parallel": "fsdp"}), ("reward", 1, {})],
    ids=["lora_sft", "split", "reward"],
)
def test_the_adapter_is_merged_into_a_model_that_says_the_same(tiny, attempt, recipe, world, extra):
    scores = recipe == "reward"
    both = attempt(of_recipe(recipe, tiny, **PARAMS | extra, output__merge="both"), world).start()
    assert both.wait() == [0] * world, both.logs()
    assert weights(both.output) == {"adapter_model.safetensors", "merged/model.safetensors"}
    adapted = logits(tiny, both.output, scores=scores)
    assert apart(adapted, logits(both.output / "merged", scores=scores)) < 1e-5
    assert (both.output / "merged" / "tokenizer.json").is_file()
    if world > 1:
        return
    merged = attempt(of_recipe(recipe, tiny, **PARAMS | extra, output__merge="merged"), world).start()
    assert merged.wait() == [0], merged.logs()
    assert weights(merged.output) == {"model.safetensors"}
    assert not (merged.output / "adapter_config.json").exists() and not (merged.dir / "adapter").exists()
    assert apart(adapted, logits(merged.output, scores=scores)) < 1e-5
    text = (merged.output / "README.md").read_text()
    assert "library_name: transformers" in text and "merged into its base: a whole model" in text


@pytest.mark.training
def test_there_is_nothing_to_merge_where_the_whole_model_is_trained(tiny, attempt):
    a = attempt(of_recipe("lora_sft", tiny, peft="none", output__merge="merged")).start()
    assert a.wait() == [87], a.logs()
    assert "output.merge is merged and peft is none" in a.status()["message"]


@pytest.mark.training
def test_the_card_says_what_it_was_made_from_and_nothing_that_is_not_known(tiny, attempt):
    config = of_recipe("lora_sft", tiny, **PARAMS) | {"base_license": "Apache-2.0"}
    config["dataset"]["sha256"] = "d" * 64
    first = attempt(config).start((FAULTS, "die_at_step", "0", "3"))
    assert first.wait() == [-signal.SIGKILL], first.logs()
    a = attempt(config, 1, first.newest()).start()
    assert a.wait() == [0], a.logs()
    text = (a.output / "README.md").read_text()
    _, front, body = text.split("---\n", 2)
    assert yaml.safe_load(front) == {
        "library_name": "peft",
        "base_model": "tiny@1",
        "license": "apache-2.0",
        "datasets": ["chat@1"],
        "tags": ["forge-ml", "lora_sft", "lora"],
    }
    losses = {m["step"]: m["values"]["loss"] for m in (*first.metrics(), *a.metrics())}
    step = min(losses, key=lambda s: losses[s])
    assert f"| dataset | chat@1 | {'d' * 64} | not known |" in body
    assert "| base model | tiny@1 | not known | Apache-2.0 |" in body
    assert "Of step 4, the last one reported" in body and f"{losses[step]:.6g}, at step {step}." in body
    assert "| train.learning_rate | 0.01 | 0.0002 |" in body and "train.epochs" not in body
    assert "| ranks | 1 |" in body and "| device | CPU |" in body and "| torch | " in body
    code = body.split("```python\n")[1].split("```")[0].replace('"PATH"', repr(str(a.output)))
    scope: dict = {}
    exec(code, scope)
    assert scope["model"].active_adapter == "default"


def test_the_lowest_loss_is_of_steps_as_they_were_done_last(tmp_path):
    def line(step: int, loss: float) -> str:
        return json.dumps({"step": step, "values": {"loss": loss}}) + "\n"

    for number, lines in ((1, [line(1, 3.0), line(2, 0.1), line(3, 0.2)]), (2, [line(2, 2.0), "{torn\n", line(3, 2.5)])):
        (tmp_path / "attempts" / f"000{number}").mkdir(parents=True)
        (tmp_path / "attempts" / f"000{number}" / "metrics.jsonl").write_text("".join(lines))
    config = tmp_path / "attempts" / "0002" / "config.json"
    run = RunDir.from_environment({"FORGE_CONFIG": str(config), "FORGE_ATTEMPT": "2"})
    last, best = card.last_and_best(run)
    assert last["step"] == 3 and best == (2, 2.0)


def test_a_name_cannot_break_the_card(tmp_path, run):
    from types import SimpleNamespace

    job = SimpleNamespace(
        config={"base": {"name": 'a"\n- x: |y'}, "base_license": "Own: terms"},
        recipe=SimpleNamespace(name="lora_sft", params=()),
        params={"peft": "lora"},
        runtime=SimpleNamespace(run=run, gang=SimpleNamespace(world=1, device="cpu")),
    )
    text = card.text(job, True, {"steps": 1, "code": {}})
    front = yaml.safe_load(text.split("---\n")[1])
    assert front["base_model"] == 'a"\n- x: |y' and front["license_name"] == "Own: terms"
    assert "| dataset | not known | not known | not known |" in text and "not known: no metrics" in text


@pytest.mark.training
@pytest.mark.parametrize(("world", "parallel"), [(1, "ddp"), (2, "fsdp")])
def test_an_attempt_that_goes_on_from_the_last_step_only_writes_the_output(tiny, attempt, world, parallel):
    """As one does whose load test was cut short. A constant rate, so that one more step would be seen in the weights."""
    more = {"train__parallel": parallel, "train__lr_scheduler": "constant"}
    config = of_recipe("lora_sft", tiny, **PARAMS | more)
    first = attempt(config, world).start()
    assert first.wait() == [0] * world, first.logs()
    second = attempt(config, world, first.newest()).start()
    assert second.wait() == [0] * world, second.logs()
    assert second.metrics() == []
    weights = "adapter_model.safetensors"
    assert (second.output / weights).read_bytes() == (first.output / weights).read_bytes()
    assert "Of step 4, the last one reported" in (second.output / "README.md").read_text()
