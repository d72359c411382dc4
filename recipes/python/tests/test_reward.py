"""A reward model: its head is trained, and its output is one."""

from __future__ import annotations

import pytest
from conftest import declared_metrics, of_recipe

pytestmark = pytest.mark.training
PARAMS = {"train__max_steps": 10, "train__batch_size": 8, "train__learning_rate": 5e-3, "checkpoint__every_steps": 10}


@pytest.mark.parametrize("peft", ["lora", "none"])
def test_the_output_is_a_reward_model_that_prefers_what_was_chosen(tiny, attempt, peft):
    import torch
    from peft import AutoPeftModelForSequenceClassification
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    rate = {} if peft == "lora" else {"train__learning_rate": 1e-3}
    a = attempt(of_recipe("reward", tiny, **PARAMS | rate, peft=peft)).start()
    assert a.wait() == [0], a.logs()
    first, last = a.metrics()[0]["values"], a.metrics()[-1]["values"]
    assert last["loss"] < first["loss"] and last["margin"] > first["margin"]
    assert set(last) <= declared_metrics("reward")
    assert {"accuracy", "margin", "min_reward", "mean_reward", "max_reward"} <= set(last)
    assert "newly initialized" not in a.logs(), "that the head is new is the point, and no warning"

    def load():
        if peft == "lora":
            return AutoPeftModelForSequenceClassification.from_pretrained(a.output, num_labels=1)
        return AutoModelForSequenceClassification.from_pretrained(a.output)

    tokenizer = AutoTokenizer.from_pretrained(a.output)

    def score(model, answer: str) -> float:
        talk = [{"role": "user", "content": "Hello, the app closes as soon as I open it."}]
        text = tokenizer.apply_chat_template([*talk, {"role": "assistant", "content": answer}], tokenize=False)
        with torch.no_grad():
            return model.eval()(**tokenizer(text, return_tensors="pt")).logits.item()

    model = load()
    assert model.config.num_labels == 1
    good = "I am sorry for the trouble. Please update it in the store and restart the phone."
    assert score(model, good) > score(model, "Hm. It works here.")
    assert score(load(), good) == score(model, good), "the head that was trained is loaded, not a new one at random"
