"""The same training as a person writes it with TRL, without any of forge's code.

python bare_trl.py RECIPE BASE DATA DIR [STEPS] prints one JSON list, the log of every step.
test_fidelity.py and contrib/bench hold the recipes against it,
with its numbers as parameters in fidelity.json.
"""

from __future__ import annotations

import json
import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"

from datasets import load_dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, set_seed
from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer, SFTConfig, SFTTrainer

recipe, base, data, directory, steps = (*sys.argv[1:], 12)[:5]
set_seed(42)
config, trainer = {
    "lora_sft": (SFTConfig, SFTTrainer),
    "dpo": (DPOConfig, DPOTrainer),
    "reward": (RewardConfig, RewardTrainer),
}[recipe]
if recipe == "reward":
    model, task = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1), "SEQ_CLS"
else:
    model, task = AutoModelForCausalLM.from_pretrained(base), "CAUSAL_LM"
args = config(
    output_dir=directory,
    max_steps=int(steps),
    per_device_train_batch_size=2,
    gradient_accumulation_steps=2,
    learning_rate=5e-3,
    lr_scheduler_type="linear",
    warmup_steps=0.25,
    seed=42,
    max_length=1024,
    gradient_checkpointing=False,
    logging_steps=1,
    save_strategy="no",
    report_to="none",
    bf16=False,
    use_cpu=True,
    disable_tqdm=True,
)
made = trainer(
    model=model,
    args=args,
    train_dataset=load_dataset("json", data_files=data, split="train", cache_dir=f"{directory}/cache"),
    processing_class=AutoTokenizer.from_pretrained(base),
    peft_config=LoraConfig(task_type=task, r=8, lora_alpha=16, target_modules="all-linear"),
)
made.train()
print("\n" + json.dumps([line for line in made.state.log_history if "loss" in line]))
