"""The same PPO with the trainer that TRL had until 1.12, without any of forge's code.

python bare_ppo.py TRL BASE DATA DIR [STEPS [MORE]] prints one JSON list, the log of every update. TRL is the directory that
contrib/python-env/install --trl-ppo prints, MORE a JSON object of arguments of the trainer. test_ppo_fidelity.py and contrib/bench hold forge's PPO against it, with its
numbers as parameters in fidelity_ppo.json, and with the reward below as the function last of reward_last.py; with "reward":
"length" in MORE it is builtin:length.
"""

from __future__ import annotations

import json
import os
import sys
from types import SimpleNamespace

trl, base, data, directory = sys.argv[1:5]
steps, more = int((*sys.argv[5:], 12)[0]), json.loads((*sys.argv[6:], "{}")[0])
reward = more.pop("reward", "last")
os.environ["HF_HUB_OFFLINE"] = "1"
sys.path.insert(0, trl)

import numpy as np
import torch
from datasets import load_dataset
from peft import LoraConfig, inject_adapter_in_model
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    Trainer,
    TrainingArguments,
    set_seed,
)
from trl.experimental.ppo import PPOConfig, PPOTrainer

BATCH, ACCUMULATED = more.get("per_device_train_batch_size", 2), 2
same = {"output_dir": directory, "seed": 42, "report_to": "none", "use_cpu": True, "bf16": False, "disable_tqdm": True}


class Known(torch.nn.Module):
    """A reward model that knows one thing: which token is the last, or (length) how many there are, in hundreds."""

    base_model_prefix = "backbone"
    width = 0  # of the prompts that are answered

    def backbone(self, input_ids, **_):
        place = torch.arange(input_ids.shape[1]).expand_as(input_ids) + 1 - self.width
        return SimpleNamespace(hidden_states=((place if reward == "length" else input_ids).unsqueeze(-1),))

    def score(self, of):
        return of.float() / 100 if reward == "length" else (of % 17).float() / 17


class Batches(list):
    """Prompts, of which the reward model learns how wide they are."""

    def __iter__(self):
        for batch in super().__iter__():
            Known.width = batch["input_ids"].shape[1]
            yield batch


def tokens(row: dict) -> dict:
    if isinstance(row["prompt"], str):
        return {"input_ids": tokenizer(row["prompt"])["input_ids"]}
    text = tokenizer.apply_chat_template(row["prompt"], tokenize=False, add_generation_prompt=True)
    return {"input_ids": tokenizer(text, add_special_tokens=False)["input_ids"]}


tokenizer = AutoTokenizer.from_pretrained(base, padding_side="left")
rows = load_dataset("json", data_files=data, split="train", cache_dir=f"{directory}/cache")
conversational = not isinstance(rows[0]["prompt"], str)
rows = rows.map(tokens, remove_columns=rows.column_names)

# the prompts in the order in which transformers' trainer gives them; TRL's trainer has one of its own, and then nothing is alike
set_seed(42)
order = Trainer(
    torch.nn.Linear(1, 1),
    TrainingArguments(
        per_device_train_batch_size=BATCH * ACCUMULATED, dataloader_drop_last=True, remove_unused_columns=False, **same
    ),
    data_collator=lambda some: dict(tokenizer.pad(some, return_tensors="pt")),
    train_dataset=rows,
).get_train_dataloader()
batches = Batches(order)

set_seed(42)
policy = AutoModelForCausalLM.from_pretrained(base)
set_seed(42)
value = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1)
set_seed(42)
lora = {"r": 8, "lora_alpha": 16, "target_modules": [n for n, m in value.named_modules() if type(m) is torch.nn.Linear and n != "score"]}
inject_adapter_in_model(LoraConfig(**lora), value)
value.score.requires_grad_(True)
set_seed(42)
made = PPOTrainer(
    args=PPOConfig(
        **{
            "per_device_train_batch_size": BATCH,
            "gradient_accumulation_steps": ACCUMULATED,
            "local_rollout_forward_batch_size": BATCH * ACCUMULATED,
            "total_episodes": steps * BATCH * ACCUMULATED,
            "num_sample_generations": 0,
            "num_ppo_epochs": 2,
            "num_mini_batches": 1,
            "response_length": 16,
            "temperature": 1.0 - 1e-7,  # to which it adds as much
            "stop_token": "eos",
            "kl_coef": 0.05,
            "learning_rate": 3e-3,
            "lr_scheduler_type": "linear",
            "warmup_steps": 0.25,
            "gradient_checkpointing": False,
            "logging_steps": 1,
            "save_strategy": "no",
        }
        | same
        | more
    ),
    processing_class=tokenizer,
    model=policy,
    ref_model=None,
    reward_model=Known(),
    train_dataset=rows,
    value_model=value,
    peft_config=LoraConfig(task_type="CAUSAL_LM", r=8, lora_alpha=16, target_modules="all-linear"),
)
made.dataloader = batches
if conversational and "<|im_end|>" in (tokenizer.chat_template or ""):  # which ends a turn, and with it an answer
    made.policy_model.generation_config.eos_token_id = [tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|im_end|>")]
torch.manual_seed(42)
np.random.seed(42)
made.train()
print("\n" + json.dumps([line for line in made.state.log_history if "loss/policy_avg" in line]))
