"""The chat template that the recipe brings, and code that a base model brings where the site lets it."""

from __future__ import annotations

import json
import shutil

import pytest
from conftest import DATA, configuration


@pytest.mark.slow
def test_a_base_without_a_template_learns_in_chatml_and_leaves_it_behind(attempt, tiny, tmp_path):
    base = tmp_path / "base"
    shutil.copytree(tiny, base)
    (base / "chat_template.jinja").unlink()
    few = tmp_path / "few.jsonl"
    few.write_text("".join(DATA.read_text().splitlines(keepends=True)[:4]))
    params = {"train__chat_template": "chatml", "train__assistant_only_loss": True, "train__max_steps": 1}
    a = attempt(configuration(base, few, **params)).start()
    assert a.wait() == [0], a.logs()
    left = (a.output / "chat_template.jinja").read_text()
    assert "<|im_start|>" in left and "generation" in left


def test_chatml_says_what_the_models_that_use_it_expect():
    from forge_train.template import CHATML
    from transformers.utils.chat_template_utils import render_jinja_template

    chat = [{"role": r, "content": c} for r, c in (("system", "s"), ("user", "q "), ("assistant", "a"))]
    (text,), _ = render_jinja_template([chat], chat_template=CHATML)
    assert text == "<|im_start|>system\ns<|im_end|>\n<|im_start|>user\nq <|im_end|>\n<|im_start|>assistant\na<|im_end|>\n"
    (asked,), _ = render_jinja_template([chat[:2]], chat_template=CHATML, add_generation_prompt=True)
    assert text.startswith(asked), "what is asked is what was learnt to be answered"
    _, ((marked,),) = render_jinja_template([chat], chat_template=CHATML, return_assistant_tokens_mask=True)
    assert text[slice(*marked)] == "a<|im_end|>\n"


@pytest.mark.slow
def test_code_of_a_base_model_runs_where_the_site_trusts_it(attempt, tiny, tmp_path):
    base = tmp_path / "base"
    shutil.copytree(tiny, base)
    (base / "own.py").write_text(
        "from transformers import LlamaForCausalLM\n\n\nclass Own(LlamaForCausalLM):\n"
        "    def __init__(self, config):\n        print('its own code ran', flush=True)\n        super().__init__(config)\n"
    )
    file = base / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"auto_map": {"AutoModelForCausalLM": "own.Own"}}))
    few = tmp_path / "few.jsonl"
    few.write_text("".join(DATA.read_text().splitlines(keepends=True)[:2]))
    a = attempt(configuration(base, few, train__max_steps=1) | {"trust_remote_code": True})
    a.extra = {"HF_MODULES_CACHE": str(tmp_path / "modules")}
    assert a.start().wait() == [0], a.logs()
    assert "its own code ran" in a.logs()
