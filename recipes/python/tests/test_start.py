"""A run that begins from an adapter: it trains on top of it, and leaves one adapter over the plain base."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import pytest
from conftest import of_recipe
from gang_of import Attempt, curve, digests

FAULTS = str(Path(__file__).with_name("with_fault.py"))
pytestmark = pytest.mark.training
PARAMS = {
    "train__max_steps": 6,
    "train__batch_size": 4,
    "train__learning_rate": 1e-2,
    "train__deterministic": True,
    "checkpoint__every_steps": 2,
}
# nothing is learnt: the output must be the start
STILL = PARAMS | {"train__learning_rate": 0.0, "train__max_steps": 1}
TEXT = "Hello, the app closes as soon as I open it."


def made(root: Path, config: dict) -> Attempt:
    a = Attempt(root / "run", 1, config)
    assert a.start().wait() == [0], a.logs()
    return a


@pytest.fixture(scope="module")
def sft(tiny, tmp_path_factory) -> Attempt:
    """An adapter of a few modules, of a rank and a scaling of its own."""
    own = {"lora__r": 3, "lora__alpha": 7.5, "lora__target_modules": "q_proj,v_proj"}
    return made(tmp_path_factory.mktemp("sft"), of_recipe("lora_sft", tiny, **PARAMS | own))


@pytest.fixture(scope="module")
def reward(tiny, tmp_path_factory) -> Attempt:
    """An adapter with a scoring head."""
    return made(tmp_path_factory.mktemp("reward"), of_recipe("reward", tiny, **PARAMS))


def over(config: dict, start: Attempt, **more) -> dict:
    return config | {"start": {"name": "sft@1", "path": str(start.output)} | more}


def ids(tokenizer_of: Path):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tokenizer_of)(TEXT, return_tensors="pt")


def logits(base: Path, *adapters: Path, scores: bool = False):
    """What the base says with adapters over it, each merged before the next is put on top."""
    import torch
    from peft import LoraConfig, PeftModel
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    more = {"num_labels": 1} if scores else {}
    model = (AutoModelForSequenceClassification if scores else AutoModelForCausalLM).from_pretrained(base, **more)
    for path in adapters:
        if hasattr(model, "peft_config"):
            del model.peft_config
        config = LoraConfig.from_pretrained(path)
        config.task_type = None  # one that writes under one that scores
        model = PeftModel.from_pretrained(model, path, config=config).merge_and_unload()
    with torch.no_grad():
        return model.eval()(**ids(base)).logits


def apart(a, b) -> float:
    return (a - b).abs().max().item()


@pytest.mark.parametrize("recipe", ["lora_sft", "dpo"])
def test_what_learns_nothing_leaves_what_it_began_from(tiny, attempt, sft, recipe):
    a = attempt(over(of_recipe(recipe, tiny, **STILL), sft)).start()
    assert a.wait() == [0], a.logs()
    start = logits(tiny, sft.output)
    assert apart(logits(tiny), start) > 0.01, "the start changes something"
    assert apart(logits(tiny, a.output), start) < 1e-5
    config = json.loads((a.output / "adapter_config.json").read_text())
    assert config["r"] == 3 + 8 and config["lora_alpha"] == config["r"]
    assert {"q_proj", "v_proj", "down_proj"} <= {name.rsplit(".")[-1] for name in config["target_modules"]}


@pytest.mark.parametrize("algorithm", ["ppo", "grpo"])
def test_a_policy_that_learns_nothing_is_the_adapter_that_it_began_from(tiny, attempt, sft, algorithm):
    more = {
        "rlhf__algorithm": algorithm,
        "rlhf__reward_functions": "builtin:length",
        "rlhf__num_generations": 2,
        "generation__max_new_tokens": 4,
        "output__merge": "both",
    }
    a = attempt(over(of_recipe("rlhf", tiny, **STILL | more), sft)).start()
    assert a.wait() == [0], a.logs()
    start = logits(tiny, sft.output)
    assert apart(logits(tiny, a.output), start) < 1e-5
    assert apart(logits(a.output / "merged"), start) < 1e-5


def test_the_output_over_the_plain_base_is_the_model_that_was_trained(tiny, attempt, sft):
    a = attempt(over(of_recipe("dpo", tiny, **PARAMS), sft)).start()
    assert a.wait() == [0], a.logs()
    trained = logits(tiny, sft.output, a.newest())  # a checkpoint has the new adapter alone
    assert apart(trained, logits(tiny, sft.output)) > 0.01, "it has learnt something"
    assert apart(logits(tiny, a.output), trained) < 1e-5
    # the reference is the start and not the base: before the first step policy and reference are one
    assert a.metrics()[0]["values"]["loss"] == pytest.approx(0.6931, abs=1e-3)
    assert json.loads((a.output / "training.json").read_text())["start"]["name"] == "sft@1"
    assert "begins from the adapter sft@1" in (a.output / "README.md").read_text()


def test_all_weights_can_be_trained_from_a_start(tiny, attempt, sft):
    a = attempt(over(of_recipe("lora_sft", tiny, **STILL, peft="none"), sft)).start()
    assert a.wait() == [0], a.logs()
    assert apart(logits(a.output), logits(tiny, sft.output)) < 1e-5
    b = attempt(over(of_recipe("lora_sft", tiny, **PARAMS | {"train__learning_rate": 1e-3}, peft="none"), sft)).start()
    assert b.wait() == [0], b.logs()
    assert apart(logits(b.output), logits(a.output)) > 0.01, "none of its weights is frozen"


def test_a_reward_model_begins_from_an_adapter_that_writes(tiny, attempt, sft):
    a = attempt(over(of_recipe("reward", tiny, **PARAMS), sft)).start()
    assert a.wait() == [0], a.logs()
    assert apart(logits(tiny, a.output, scores=True), logits(tiny, sft.output, a.newest(), scores=True)) < 1e-5


def test_a_reward_model_begins_from_a_reward_model_with_its_head(tiny, attempt, reward):
    a = attempt(over(of_recipe("reward", tiny, **STILL), reward)).start()
    assert a.wait() == [0], a.logs()
    assert apart(logits(tiny, a.output, scores=True), logits(tiny, reward.output, scores=True)) < 1e-5


def test_interrupted_it_ends_with_the_same_bytes(tiny, attempt, tmp_path, sft):
    config = over(of_recipe("dpo", tiny, **PARAMS | {"lora__dropout": 0.1}), sft)
    calm = made(tmp_path / "calm", config)
    first = attempt(config).start((FAULTS, "die_at_step", "0", "3"))
    assert first.wait() == [-signal.SIGKILL], first.logs()
    second = attempt(config, 1, first.newest()).start()
    assert second.wait() == [0], second.logs()
    assert second.metrics()[0]["step"] == 3
    assert curve(first, second) == curve(calm)
    assert digests(second) == digests(calm)


def test_a_checkpoint_goes_on_over_its_own_start_alone(tiny, attempt, sft, reward, tmp_path):
    config = over(of_recipe("reward", tiny, **PARAMS), sft)
    first = attempt(config).start((FAULTS, "die_at_step", "0", "3"))
    assert first.wait() == [-signal.SIGKILL], first.logs()
    for other, words in ((over(config, reward), "of sha256"), (of_recipe("reward", tiny, **PARAMS), "has no start adapter")):
        a = attempt(other, 1, first.newest()).start()
        assert a.wait() == [87], a.logs()
        assert "was trained on top of the start adapter" in a.status()["message"] and words in a.status()["message"]


def refused(attempt, config: dict) -> str:
    a = attempt(config).start()
    assert a.wait() == [87], a.logs()
    return a.status()["message"]


def altered(tmp_path: Path, sft: Attempt, file: str, **keys) -> Attempt:
    """A copy of the start with a few words of a JSON file changed."""
    copy = Attempt(tmp_path / f"altered-{file}-{'-'.join(keys)}", 1, {"recipe": "lora_sft"})
    shutil.copytree(sft.output, copy.output, dirs_exist_ok=True)
    path = copy.output / file
    path.write_text(json.dumps(json.loads(path.read_text()) | keys))
    return copy


def test_a_start_that_does_not_fit_is_refused_with_a_reason(tiny, attempt, sft, reward, tmp_path):
    config = of_recipe("lora_sft", tiny, **PARAMS)
    assert "a model that writes" in refused(attempt, over(config, reward))
    other = config | {"base": config["base"] | {"sha256": "aa"}}
    assert "over old@1, and the base of this run is tiny@1" in refused(
        attempt, over(other, sft, base={"name": "old@1", "sha256": "bb"})
    )
    dora = altered(tmp_path, sft, "adapter_config.json", use_dora=True)
    assert "has DoRA, which cannot be joined" in refused(attempt, over(config, dora))
    whole = altered(tmp_path, sft, "adapter_config.json", modules_to_save=["embed_tokens"])
    assert "whole modules (embed_tokens)" in refused(attempt, over(config, whole))
    nowhere = altered(tmp_path, sft, "adapter_config.json", target_modules=["q_proj"])
    assert "does not fit the base model, which has nothing for" in refused(attempt, over(config, nowhere))
    wide = altered(tmp_path, sft, "adapter_config.json", r=4)
    assert "does not fit the base model: " in refused(attempt, over(config, wide))
    small = altered(tmp_path, sft, "adapter_config.json")
    tokenizer = json.loads((small.output / "tokenizer.json").read_text())
    tokenizer["added_tokens"].append(tokenizer["added_tokens"][-1] | {"id": 512, "content": "<new>"})
    (small.output / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert "its tokenizer has 513 tokens and is not the base's with 512" in refused(attempt, over(config, small))
    (small.output / "adapter_config.json").unlink()
    assert "it is no adapter" in refused(attempt, over(config, small))
    assert "it would be rounded to 4 bits" in refused(attempt, over(of_recipe("lora_sft", tiny, peft="qlora"), sft))


def test_a_start_that_changes_while_the_run_goes_on_is_seen(tiny, attempt, sft, tmp_path):
    from forge_train import join

    copy = altered(tmp_path, sft, "adapter_config.json")
    start = join.inspect(copy.output, {"name": "sft@1"}, None)
    shutil.copyfile(tiny / "model.safetensors", copy.output / join.WEIGHTS)
    with pytest.raises(OSError, match="changed while the run went on"):
        join.onto(sft.output, start)
