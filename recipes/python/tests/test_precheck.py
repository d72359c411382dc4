"""What the real tokenizer says of rows before a GPU is asked for, in the program that forged starts."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import DATA
from gang_of import SRC

pytestmark = pytest.mark.slow  # each starts the program, which loads a tokenizer


def row(question: str, answer: str) -> bytes:
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return json.dumps({"messages": messages}).encode() + b"\n"


def look(base: Path, data: Path, kind: str = "messages", recipe: str = "lora_sft", **params) -> dict:
    """Start it as forged does, and read its answer."""
    config = {
        "recipe": recipe,
        "params": {"train.max_length": 1024} | {k.replace("__", "."): v for k, v in params.items()},
        "dataset": {"path": str(data)},
        "dataset_kind": kind,
        "base": {"path": str(base)},
    }
    env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "PYTHONPATH": str(SRC), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-s", "-B", "-m", "forge_train.precheck", "-"],
        input=json.dumps(config).encode(),
        env=env,
        cwd="/",
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def only_fault(answer: dict) -> dict:
    assert len(answer["faults"]) == 1, answer
    return answer["faults"][0]


def base_with(tiny: Path, tmp_path: Path, template: str | None, **config) -> Path:
    """The tiny base with another chat template (None: without), and other words in tokenizer_config.json."""
    base = tmp_path / "base"
    shutil.copytree(tiny, base)
    if template is None:
        (base / "chat_template.jinja").unlink()
    else:
        (base / "chat_template.jinja").write_text(template)
    file = base / "tokenizer_config.json"
    file.write_text(json.dumps({k: v for k, v in (json.loads(file.read_text()) | config).items() if v is not None}))
    return base


def test_rows_that_fit_are_found_fit_in_little_time(tiny):
    began = time.monotonic()
    answer = look(tiny, DATA, train__max_length=256)
    assert answer["faults"] == [] and answer["warnings"] == []
    assert answer["rows"] == 180 and answer["over_long"] == 0 and 200 < answer["longest"] <= 256
    assert time.monotonic() - began < 20


def test_lengths_are_those_that_the_trainer_sees(tiny, tmp_path):
    """The longest row of the sample has as many tokens as the tokenizer gives to it, template and all."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny)
    rows = [json.loads(line)["messages"] for line in DATA.read_text().splitlines()]
    longest = max(len(tokenizer.apply_chat_template(r, tokenize=True, return_dict=True)["input_ids"]) for r in rows)
    assert look(tiny, DATA)["longest"] == longest


@pytest.mark.parametrize(("recipe", "fate"), [("lora_sft", "are cut there"), ("reward", "are left out")])
def test_rows_that_are_too_long_are_a_warning_with_their_share(tiny, tmp_path, recipe, fate):
    path = tmp_path / "d.jsonl"
    if recipe == "reward":
        pair = {"prompt": "q", "chosen": "b" * 400, "rejected": "a"}
        pairs = [pair if i == 6 else pair | {"chosen": "b"} for i in range(20)]
        path.write_bytes(b"".join(json.dumps(p).encode() + b"\n" for p in pairs))
        answer = look(tiny, path, "preference", recipe, train__max_length=40)
    else:
        path.write_bytes(b"".join(row("q", "b" * (400 if i == 6 else 1)) for i in range(20)))
        answer = look(tiny, path, train__max_length=40)
    (warning,) = [w for w in answer["warnings"] if "max_length" in w]
    assert "1 of 20 rows" in warning and "train.max_length = 40" in warning and f"{path} line 7" in warning
    assert fate in warning and "--set train.max_length=" in warning
    assert answer["faults"] == []


def test_a_template_that_refuses_rows(tiny, tmp_path):
    template = (
        "{% for m in messages %}{% if m['content'] == 'never' %}{{ raise_exception('not this') }}{% endif %}"
        "{{ m['content'] }}{% endfor %}"
    )
    path = tmp_path / "d.jsonl"
    path.write_bytes(row("q", "a") * 3 + row("never", "a") + row("q", "a"))
    fault = only_fault(look(base_with(tiny, tmp_path, template), path))
    assert fault["field"] == "dataset" and "refuses 1 of 5 rows" in fault["message"]
    assert f"{path} line 4: not this" in fault["message"] and "chatml" in fault["hint"]


def test_a_template_that_never_ends_is_ended_by_its_own_limits(tiny, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(SRC))
    source = "from forge_train import precheck\nprecheck.PROCESSOR = 3\nprecheck.main()"
    base = base_with(tiny, tmp_path, "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}")
    config = {"dataset": {"path": str(DATA)}, "dataset_kind": "messages", "base": {"path": str(base)}, "params": {}}
    file = tmp_path / "config.json"
    file.write_text(json.dumps(config))
    env = os.environ | {"PYTHONPATH": str(SRC)}
    done = subprocess.run([sys.executable, "-c", source, file], env=env, capture_output=True, timeout=60, check=False)
    assert done.returncode == -9 or done.returncode == -24, done


@pytest.mark.parametrize("marked", [True, False])
def test_assistant_only_loss_needs_marks(tiny, tmp_path, marked):
    turn = "{% generation %}{{ m.content }}{% endgeneration %}" if marked else "{{ m.content }}"
    base = base_with(tiny, tmp_path, "{% for m in messages %}" + turn + "{% endfor %}")
    answer = look(base, DATA, train__assistant_only_loss=True)
    if marked:
        assert answer["faults"] == []
    else:
        fault = only_fault(answer)
        assert fault["field"] == "params.train.assistant_only_loss" and "{% generation %}" in fault["message"]
        assert look(base, DATA, train__assistant_only_loss=True, train__chat_template="chatml")["faults"] == []


@pytest.mark.parametrize("wanted", ["auto", "tokenizer", "chatml"])
def test_a_base_without_a_template(tiny, tmp_path, wanted):
    answer = look(base_with(tiny, tmp_path, None), DATA, train__chat_template=wanted)
    if wanted == "tokenizer":
        fault = only_fault(answer)
        assert fault["field"] == "base" and "no chat template" in fault["message"]
    else:  # the tiny base knows ChatML's marks
        assert answer["faults"] == [] and "written as ChatML" in answer["warnings"][0]


def test_a_tokenizer_without_an_end(tiny, tmp_path):
    base = base_with(tiny, tmp_path, "{{ messages }}", eos_token=None)
    (base / "special_tokens_map.json").unlink(missing_ok=True)
    assert any("no end token" in w for w in look(base, DATA, train__max_length=100000)["warnings"])
    base = base_with(tiny, tmp_path / "2", "{{ messages }}", eos_token=None, pad_token=None)
    (base / "special_tokens_map.json").unlink(missing_ok=True)
    assert "neither a padding nor an end token" in only_fault(look(base, DATA))["message"]


def test_prompts_that_leave_no_room_for_an_answer(tiny, tmp_path):
    path = tmp_path / "d.jsonl"
    path.write_bytes(json.dumps({"prompt": "a long question " * 20, "completion": "yes"}).encode() + b"\n")
    fault = only_fault(look(tiny, path, "prompt_completion", train__max_length=8))
    assert fault["field"] == "params.train.max_length" and "nothing to learn" not in fault["message"]
    assert "anything to learn" in fault["message"] and "--set train.max_length=" in fault["hint"]


def test_prompts_that_leave_no_room_to_answer_them(tiny, tmp_path):
    path = tmp_path / "d.jsonl"
    asked = [json.dumps({"prompt": [{"role": "user", "content": "why " * n}]}).encode() + b"\n" for n in (1, 1, 40, 1)]
    path.write_bytes(b"".join(asked))
    fault = only_fault(look(tiny, path, "prompt", "rlhf", generation__max_new_tokens=200))
    assert "1 of 4 rows" in fault["message"] and f"first at {path} line 3 with" in fault["message"]
    assert "more than 56 tokens (max_position_embeddings of the model = 256" in fault["message"]
    assert look(tiny, path, "prompt", "rlhf", generation__max_new_tokens=16)["faults"] == []
    assert "train.max_length = 64" in only_fault(
        look(tiny, path, "prompt", "rlhf", generation__max_new_tokens=16, train__max_length=64)
    )["message"]


def test_prompts_that_the_template_refuses(tiny, tmp_path):
    path = tmp_path / "d.jsonl"
    path.write_bytes(json.dumps({"prompt": [{"role": "user", "content": "a"}]}).encode() + b"\n")
    base = base_with(tiny, tmp_path, "{{ raise_exception('not this') }}")
    fault = only_fault(look(base, path, "prompt", "rlhf", generation__max_new_tokens=16))
    assert fault["field"] == "dataset" and f"{path} line 1: not this" in fault["message"]


def test_rows_beyond_the_context_of_the_base(tiny, tmp_path):
    path = tmp_path / "d.jsonl"
    path.write_bytes(row("q", "b c d e f " * 200))
    assert any("max_position_embeddings = 256" in w for w in look(tiny, path, train__max_length=4096)["warnings"])


def test_of_a_large_dataset_a_part_is_looked_at_and_the_places_are_right(tiny, tmp_path):
    path = tmp_path / "d.jsonl"
    with open(path, "wb") as f:
        for i in range(20_000):
            f.write(row(f"question {i}", "x" * 200))
        f.write(row("the last one", "z " * 2000))
    answer = look(tiny, path, train__max_length=2000)
    assert 200 < answer["rows"] <= 256
    assert answer["longest_at"] == f"{path} line 20001"


def test_an_adapter_in_place_of_a_base(tiny, tmp_path):
    base = base_with(tiny, tmp_path, "x")
    (base / "adapter_config.json").write_text('{"base_model_name_or_path": "meta/llama"}')
    assert "is an adapter of meta/llama" in only_fault(look(base, DATA))["message"]


def test_it_runs_no_code_of_the_model(tiny, tmp_path):
    base = base_with(tiny, tmp_path, "x", auto_map={"AutoTokenizer": ["evil.Evil", None]}, tokenizer_class="Evil")
    (base / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Evil: pass\n")
    look(base, DATA)
    assert not (tmp_path / "ran").exists()
