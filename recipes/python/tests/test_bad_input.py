"""Bad input ends with 87 and a sentence that names the file, line, field or parameter."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from conftest import configuration

GOOD = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}


def line(row: object) -> bytes:
    return json.dumps(row).encode() + b"\n"


def refused(attempt, config: dict) -> str:
    """Run it; return the message of its status file."""
    a = attempt(config).start()
    assert a.wait() == [87], a.logs()
    status = a.status()
    assert (status["outcome"], status["reason"]) == ("failed", "bad_input")
    assert status["message"] in a.logs(), "people read the log as well"
    assert a.metrics() == [] and not any(a.checkpoints.iterdir()) and not any(a.output.iterdir())
    return status["message"]


ROWS = {
    "empty": (b"", "messages", ["is empty"]),
    "blank lines only": (b"\n \n", "messages", ["is empty"]),
    "malformed JSON": (line(GOOD) + b'{"messages": [\n', "messages", ["line 2", "not JSON"]),
    "not UTF-8": (line(GOOD) * 2 + b'{"messages": "\xff"}\n', "messages", ["line 3", "not UTF-8", "0xff"]),
    "a row that is no object": (b"[1, 2]\n", "messages", ["line 1", "JSON object", "a list"]),
    "wrong column": (line({"chosen": "a", "rejected": "b"}), "messages", ["line 1", "messages is missing", "chosen"]),
    "a later row of other columns": (line(GOOD) + line({"text": "x"}), "messages", ["line 2", "messages is missing"]),
    "unknown kind of rows": (line({"foo": "a"}), "", ["line 1", "want messages, or text, or prompt and completion"]),
    "a kind for another recipe": (line(GOOD), "preference", ["preference", "does not suit"]),
    "messages that are no list": (line({"messages": "Hi"}), "messages", ["messages must be a list", "a text"]),
    "no messages": (line({"messages": []}), "messages", ["line 1", "empty list"]),
    "a message without content": (
        line(GOOD) + line({"messages": [{"role": "user"}]}),
        "messages",
        ["line 2", "messages[0].content", "missing"],
    ),
    "content that is null": (
        line({"messages": [{"role": "user", "content": None}]}),
        "messages",
        ["messages[0].content", "null"],
    ),
    "text that is a number": (line({"text": 3}), "text", ["line 1", "text must be a text", "a number"]),
    "an empty completion": (
        line({"prompt": "a", "completion": ""}),
        "prompt_completion",
        ["line 1", "completion is empty"],
    ),
}


@pytest.mark.parametrize("case", ROWS)
def test_dataset(attempt, tiny, tmp_path, case):
    content, kind, words = ROWS[case]
    path = tmp_path / "data.jsonl"
    path.write_bytes(content)
    message = refused(attempt, configuration(tiny, path, kind))
    assert str(path) in message or kind == "preference"
    for word in words:
        assert word in message


def test_dataset_that_is_not_there(attempt, tiny):
    assert "/nowhere/x.jsonl does not exist" in refused(attempt, configuration(tiny, Path("/nowhere/x.jsonl")))


def test_directory_without_jsonl(attempt, tiny, tmp_path):
    (tmp_path / "data").mkdir()
    assert "holds no .jsonl file" in refused(attempt, configuration(tiny, tmp_path / "data"))


def test_the_file_is_named_when_a_directory_holds_several(attempt, tiny, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    (data / "a.jsonl").write_bytes(line(GOOD))
    (data / "b.jsonl").write_bytes(line(GOOD) + b"oops\n")
    assert f"{data}/b.jsonl line 2" in refused(attempt, configuration(tiny, data))


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"lora__rank": 8}, ["unknown parameter lora.rank", "lora.r"]),
        ({"lora__r": "8"}, ["lora.r", "'8'", "a whole number"]),
        ({"lora__r": 1.5}, ["lora.r", "1.5"]),
        ({"lora__r": True}, ["lora.r", "True"]),
        ({"lora__r": 0}, ["lora.r is 0", "1 to 1024"]),
        ({"train__lr_scheduler": "polynomial"}, ["train.lr_scheduler", "linear, cosine"]),
        ({"train__packing": "yes"}, ["train.packing", "true or false"]),
        ({"lora__target_modules": "q_proj,nope"}, ["lora.target_modules", "nope", "q_proj", "all-linear"]),
        ({"lora__target_modules": "lm_head"}, ["lora.target_modules", "lm_head"]),
        ({"train__precision": "fp16"}, ["train.precision is fp16", "GPU"]),
        ({"checkpoint__keep_last": 1}, ["checkpoint.keep_last is 1", "2 to 1000"]),
    ],
    ids=lambda x: ",".join(f"{k}={v}" for k, v in x.items()) if isinstance(x, dict) else "",
)
def test_parameter(attempt, configure, params, words):
    message = refused(attempt, configure(**params))
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("lost", "words"),
    [
        ("config.json", ["has no config.json"]),
        ("model.safetensors", ["has no weights"]),
        ("tokenizer.json", ["has no tokenizer"]),
        ("chat_template.jinja", ["no chat template", "chat_template.jinja", "train.chat_template=chatml"]),
    ],
)
def test_base_model_that_lacks_a_file(attempt, tiny, tmp_path, lost, words):
    shutil.copytree(tiny, tmp_path / "base")
    (tmp_path / "base" / lost).unlink()
    message = refused(attempt, configuration(tmp_path / "base", train__chat_template="tokenizer"))
    assert str(tmp_path / "base") in message
    for word in words:
        assert word in message


def test_an_adapter_in_place_of_a_base_model(attempt, tiny, tmp_path):
    shutil.copytree(tiny, tmp_path / "base")
    (tmp_path / "base" / "adapter_config.json").write_text('{"base_model_name_or_path": "meta/llama"}')
    assert "is an adapter of meta/llama and no base model" in refused(attempt, configuration(tmp_path / "base"))


def test_base_model_with_code_of_its_own(attempt, tiny, tmp_path):
    shutil.copytree(tiny, tmp_path / "base")
    file = tmp_path / "base" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"auto_map": {"AutoModelForCausalLM": "evil.Evil"}}))
    message = refused(attempt, configuration(tmp_path / "base"))
    assert "Python code of its own" in message and "policy.trust_remote_code is false" in message


def test_base_model_that_lacks_a_shard(attempt, tiny, tmp_path):
    base = tmp_path / "base"
    shutil.copytree(tiny, base)
    (base / "model.safetensors").rename(base / "model-00001-of-00002.safetensors")
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (base / "model.safetensors.index.json").write_text(json.dumps(index))
    message = refused(attempt, configuration(base))
    assert "missing: model-00002-of-00002.safetensors" in message


@pytest.mark.slow
def test_base_model_with_weights_cut_short(attempt, tiny, tmp_path):
    shutil.copytree(tiny, tmp_path / "base")
    weights = tmp_path / "base" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    assert "cannot be loaded" in refused(attempt, configuration(tmp_path / "base"))


def test_base_model_that_is_not_there(attempt):
    assert "/nowhere is not a directory" in refused(attempt, configuration(Path("/nowhere")))


@pytest.mark.slow
def test_a_chat_template_that_refuses_a_row(attempt, tiny, tmp_path):
    shutil.copytree(tiny, tmp_path / "base")
    template = (
        "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system role here') }}{% endif %}"
        "{{ m['content'] }}{% endfor %}"
    )
    (tmp_path / "base" / "chat_template.jinja").write_text(template)
    message = refused(attempt, configuration(tmp_path / "base"))
    assert "chat template" in message and "no system role here" in message


@pytest.mark.slow
def test_assistant_only_loss_without_marked_turns(attempt, tiny, tmp_path):
    shutil.copytree(tiny, tmp_path / "base")
    (tmp_path / "base" / "chat_template.jinja").write_text("{% for m in messages %}{{ m['content'] }}{% endfor %}")
    message = refused(attempt, configuration(tmp_path / "base", train__assistant_only_loss=True))
    assert "assistant_only_loss" in message and "{% generation %}" in message


def test_assistant_only_loss_and_a_row_without_an_assistant(attempt, tiny, tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_bytes(line(GOOD) + line({"messages": [{"role": "user", "content": "Hi"}]}))
    message = refused(attempt, configuration(tiny, path, train__assistant_only_loss=True))
    assert "line 2" in message and "no assistant message" in message


def test_assistant_only_loss_on_text(attempt, tiny, tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_bytes(line({"text": "Hi"}))
    assert "holds no messages" in refused(attempt, configuration(tiny, path, "text", train__assistant_only_loss=True))


@pytest.mark.slow
def test_a_length_that_leaves_nothing_to_learn_from(attempt, tiny, tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_bytes(line({"prompt": "a long question " * 20, "completion": "yes"}))
    assert "train.max_length = 8" in refused(
        attempt, configuration(tiny, path, "prompt_completion", train__max_length=8)
    )


@pytest.mark.parametrize("name", ["base", "dataset"])
def test_configuration_without_an_input(attempt, configure, name):
    config = configure()
    del config[name]
    assert f"names no {name}" in refused(attempt, config)


def test_started_without_forge(attempt, configure):
    a = attempt(configure())
    a.extra = {"FORGE_CONFIG": ""}
    assert a.start(new_interpreter=True).wait() == [87]
    assert "started by forge" in a.logs()


@pytest.mark.slow
def test_a_chat_template_is_not_asked_of_text(attempt, tiny, tmp_path):
    shutil.copytree(tiny, tmp_path / "base")
    (tmp_path / "base" / "chat_template.jinja").unlink()
    path = tmp_path / "data.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + line({"text": "a plain sentence"}) * 4 + b"\n")
    a = attempt(configuration(tmp_path / "base", path, "text", train__max_steps=2)).start()
    assert a.wait() == [0], a.logs()


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", ["text", "prompt_completion", "conversational prompt_completion", "told by the first row"]
)
def test_other_kinds_of_rows_train(attempt, tiny, tmp_path, kind):
    path = tmp_path / "data.jsonl"
    row = {
        "text": {"text": "a plain sentence"},
        "prompt_completion": {"prompt": "a question", "completion": " an answer", "note": 3},
        "conversational prompt_completion": {"prompt": GOOD["messages"][:1], "completion": GOOD["messages"][1:]},
        "told by the first row": GOOD,
    }[kind]
    path.write_bytes(line(row) * 4)
    config = configuration(tiny, path, "" if kind.startswith("told") else kind.split()[-1], train__max_steps=2)
    a = attempt(config).start()
    assert a.wait() == [0], a.logs()
    assert a.metrics()[-1]["values"]["loss"] > 0
