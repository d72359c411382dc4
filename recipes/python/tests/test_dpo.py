"""Preference pairs and what DPO makes of them."""

from __future__ import annotations

import json

import pytest
from conftest import PAIRS, configuration, declared_metrics, of_recipe
from gang_of import Attempt, curve

from forge_train import dpo, rows
from forge_train.outcome import BadInput
from forge_train.params import read_params

SHORT = {"train__max_steps": 4, "train__batch_size": 2, "train__learning_rate": 1e-3, "checkpoint__every_steps": 4}


def user(text: str) -> dict:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict:
    return {"role": "assistant", "content": text}


Q = [user("Why?")]
SYSTEM = {"role": "system", "content": "Be brief."}
GOOD = {
    "text, explicit prompt": {"prompt": "Why? ", "chosen": "Because.", "rejected": "No."},
    "text, implicit prompt": {"chosen": "Why? Because.", "rejected": "Why? No."},
    "messages, explicit prompt": {
        "prompt": [SYSTEM, *Q],
        "chosen": [assistant("Because.")],
        "rejected": [assistant("No.")],
        "note": 1,
    },
    "messages, implicit prompt": {"chosen": [*Q, assistant("Because.")], "rejected": [*Q, assistant("No.")]},
    "answers of several turns": {
        "prompt": Q,
        "chosen": [assistant("Because."), user("And?"), assistant("That is all.")],
        "rejected": [assistant("No.")],
    },
    "a tool that answers": {
        "prompt": [*Q, assistant("I look."), {"role": "tool", "content": "42"}],
        "chosen": [assistant("42")],
        "rejected": [assistant("41")],
    },
}


@pytest.mark.parametrize("form", GOOD)
def test_a_pair_may_be_text_or_messages_with_its_prompt_apart_or_in_both(tmp_path, form):
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps(GOOD[form]) + "\n")
    seen = rows.inspect(path, "", ("preference",))
    assert seen.columns == (("prompt",) if "prompt" in GOOD[form] else ()) + ("chosen", "rejected")
    assert seen.conversational == isinstance(GOOD[form]["chosen"], list)
    (row,) = seen.read()
    assert row == {c: GOOD[form][c] for c in seen.columns}


BAD = {
    "equal answers": ({"prompt": "a", "chosen": "b", "rejected": "b"}, ["chosen and rejected are equal"]),
    "equal answers as messages": (
        {"prompt": Q, "chosen": [assistant("b")], "rejected": [assistant("b")]},
        ["chosen and rejected are equal"],
    ),
    "chosen empty": ({"prompt": "a", "chosen": "", "rejected": "b"}, ["chosen is empty"]),
    "rejected blank": ({"prompt": "a", "chosen": "b", "rejected": " \n"}, ["rejected is empty"]),
    "chosen an empty list": ({"prompt": Q, "chosen": [], "rejected": [assistant("b")]}, ["chosen is an empty list"]),
    "rejected a blank message": (
        {"prompt": Q, "chosen": [assistant("a")], "rejected": [assistant(" ")]},
        ["rejected is empty"],
    ),
    "no rejected": ({"prompt": "a", "chosen": "b"}, ["columns are chosen, prompt", "want chosen and rejected"]),
    "one text, one messages": (
        {"prompt": "a", "chosen": "b", "rejected": [assistant("c")]},
        ["rejected must be a text, is a list"],
    ),
    "prompts that differ": ({"chosen": "Why? a", "rejected": "How? b"}, ["begin with a different text"]),
    "prompts that differ as messages": (
        {"chosen": [user("Why?"), assistant("a")], "rejected": [user("How?"), assistant("b")]},
        ["begin with a different message", "without a column prompt"],
    ),
    "an answer that is all prompt": ({"chosen": "Why? ", "rejected": "Why? No."}, ["chosen holds nothing but"]),
    "an answer that ends with the prompt": (
        {"chosen": [*Q, assistant("a")], "rejected": [*Q]},
        ["rejected holds nothing but the prompt"],
    ),
    "two users in a row": (
        {"prompt": Q, "chosen": [user("Why?"), assistant("a")], "rejected": [assistant("b")]},
        ["roles do not alternate", "message 2 of prompt and chosen is 'user' after 'user'"],
    ),
    "two assistants in a row": (
        {"chosen": [*Q, assistant("a"), assistant("b")], "rejected": [*Q, assistant("c")]},
        ["roles do not alternate", "'assistant' after 'assistant'"],
    ),
    "a system in the middle": (
        {"prompt": [*Q, SYSTEM], "chosen": [assistant("a")], "rejected": [assistant("b")]},
        ["roles do not alternate", "'system' after 'user'"],
    ),
    "an assistant that begins": (
        {"prompt": [assistant("Hi")], "chosen": [assistant("a")], "rejected": [assistant("b")]},
        ["a conversation begins with system or user"],
    ),
    "an empty turn in the prompt": (
        {"prompt": [user("")], "chosen": [assistant("a")], "rejected": [assistant("b")]},
        ["the turn of 'user'", "is empty"],
    ),
    "an answer that ends with a question": (
        {"prompt": Q, "chosen": [assistant("a"), user("And?")], "rejected": [assistant("b")]},
        ["chosen ends with 'user'"],
    ),
    "a role that is none": (
        {"prompt": Q, "chosen": [{"role": "bot", "content": "a"}], "rejected": [assistant("b")]},
        ["'bot' after 'user'"],
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_pair_that_teaches_nothing_is_refused_by_file_and_line(tmp_path, case):
    row, words = BAD[case]
    conversational = any(isinstance(v, list) for c, v in row.items() if c != "rejected")
    first = GOOD[f"{'messages' if conversational else 'text'}, {'explicit' if 'prompt' in row else 'implicit'} prompt"]
    path = tmp_path / "pairs.jsonl"
    with pytest.raises(BadInput) as e:
        path.write_text(json.dumps(row) + "\n")
        rows.inspect(path, "", ("preference",))
    for word in [f"{path} line 1", *words]:
        assert word in str(e.value)
    with pytest.raises(BadInput, match="line 3"):
        path.write_text(json.dumps(first) + "\n\n" + json.dumps(row) + "\n")
        rows.inspect(path, "preference", ("preference",))


def test_a_later_row_without_the_prompt_that_the_first_has_is_refused(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(GOOD[f"text, {p} prompt"]) + "\n" for p in ("explicit", "implicit")))
    with pytest.raises(BadInput, match="line 2: column prompt is missing"):
        rows.inspect(path, "", ("preference",))


def test_the_shipped_pairs_are_whole():
    seen = rows.inspect(PAIRS, "preference", ("preference",))
    assert (seen.count, seen.conversational) == (100, True)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"dpo.loss_type": "exo_pair"}, ["needs dpo.label_smoothing above 0"]),
        ({"dpo.label_smoothing": 0.1}, ["only the losses robust and exo_pair", "dpo.loss_type is sigmoid"]),
        ({"dpo.reference": "second_adapter", "peft": "none"}, ["peft is none", "no adapter"]),
        ({"dpo.reference": "second_adapter", "train.parallel": "fsdp"}, ["train.parallel=fsdp"]),
        ({"peft": "qlora", "train.parallel": "fsdp"}, ["peft is qlora", "train.parallel is fsdp"]),
        ({"peft": "qlora", "train.precision": "fp16"}, ["peft is qlora", "train.precision is fp16"]),
    ],
)
def test_parameters_that_contradict_each_other_are_refused(given, words):
    with pytest.raises(BadInput) as e:
        dpo.check(read_params(dpo.PARAMS, given))
    for word in words:
        assert word in str(e.value)


@pytest.mark.training
@pytest.mark.parametrize("recipe", ["lora_sft", pytest.param("reward", marks=pytest.mark.long)])
def test_qlora_on_cpu_slots_is_refused_by_a_sentence(tiny, attempt, recipe):
    a = attempt(of_recipe(recipe, tiny, peft="qlora")).start()
    assert a.wait() == [87], a.logs()
    assert a.status()["message"].startswith("peft is qlora, which needs a GPU")


@pytest.mark.training
def test_equal_answers_end_a_run_before_it_begins(tiny, attempt, tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps(BAD["equal answers"][0]) + "\n")
    a = attempt(configuration(tiny, path, "preference", "dpo", **SHORT)).start()
    assert a.wait() == [87], a.logs()
    assert f"{path} line 1" in a.status()["message"] and a.metrics() == []


@pytest.fixture(scope="module")
def trained(tiny, tmp_path_factory) -> Attempt:
    """A short run with the reference that is the default."""
    config = of_recipe("dpo", tiny, **SHORT)
    a = Attempt(tmp_path_factory.mktemp("dpo") / "run", 1, config)
    assert a.start().wait() == [0], a.logs()
    return a


@pytest.mark.training
def test_the_policy_learns_to_prefer_and_reports_what_its_recipe_declares(trained):
    first, last = trained.metrics()[0]["values"], trained.metrics()[-1]["values"]
    assert first["loss"] == pytest.approx(0.6931, abs=1e-3), "policy and reference begin equal"
    assert last["loss"] < first["loss"] and last["rewards/margins"] > first["rewards/margins"]
    assert set(last) <= declared_metrics("dpo")
    assert {"rewards/chosen", "rewards/rejected", "rewards/accuracies", "rewards/margins", "logps/chosen"} <= set(last)


@pytest.mark.training
def test_a_second_adapter_is_the_same_reference_and_no_part_of_the_output(tiny, attempt, trained):
    a = attempt(of_recipe("dpo", tiny, **SHORT, dpo__reference="second_adapter")).start()
    assert a.wait() == [0], a.logs()
    assert (a.newest() / "ref" / "adapter_model.safetensors").is_file() and not (a.output / "ref").exists()
    for step, values in curve(trained).items():
        assert curve(a)[step] == pytest.approx(values, abs=1e-5), f"step {step}"
    names = {p.name for p in a.output.iterdir()}
    assert names == {p.name for p in trained.output.iterdir()}


@pytest.mark.training
def test_without_an_adapter_a_copy_is_the_reference_and_the_output_is_a_whole_model(tiny, attempt):
    from transformers import AutoModelForCausalLM

    a = attempt(of_recipe("dpo", tiny, **SHORT | {"peft": "none", "train__learning_rate": 1e-4})).start()
    assert a.wait() == [0], a.logs()
    first, last = a.metrics()[0]["values"], a.metrics()[-1]["values"]
    assert first["loss"] == pytest.approx(0.6931, abs=1e-4) and last["rewards/margins"] > 0.01
    assert not (a.output / "adapter_config.json").exists()
    was = AutoModelForCausalLM.from_pretrained(tiny)
    now = AutoModelForCausalLM.from_pretrained(a.output)
    changed = [n for n, p in now.named_parameters() if not p.equal(was.get_parameter(n))]
    assert "lm_head.weight" in changed and "model.layers.0.mlp.up_proj.weight" in changed


@pytest.mark.training
@pytest.mark.long
@pytest.mark.parametrize("form", GOOD)
def test_every_form_of_pairs_trains(tiny, attempt, tmp_path, form):
    path = tmp_path / "pairs.jsonl"
    path.write_text((json.dumps(GOOD[form]) + "\n") * 4)
    for recipe in ("dpo", "reward"):
        a = attempt(configuration(tiny, path, "preference", recipe, **SHORT | {"train__max_steps": 1})).start()
        assert a.wait() == [0], a.logs()


@pytest.mark.training
@pytest.mark.long
@pytest.mark.parametrize("loss", ["hinge", "ipo", "robust", "exo_pair", "nca_pair", "apo_zero", "apo_down"])
def test_every_loss_trains(tiny, attempt, loss):
    smoothing = 0.1 if loss in ("robust", "exo_pair") else 0.0
    config = of_recipe("dpo", tiny, **SHORT, dpo__loss_type=loss, dpo__label_smoothing=smoothing)
    a = attempt(config).start()
    assert a.wait() == [0], a.logs()
    first, last = a.metrics()[0]["values"], a.metrics()[-1]["values"]
    assert last["loss"] < first["loss"], "in the first step policy and reference are equal, whatever the batch"
    if loss != "apo_down":  # it first of all takes likelihood from the chosen answers, whatever that does to the rejected
        assert last["rewards/margins"] > first["rewards/margins"]
