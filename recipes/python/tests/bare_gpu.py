"""lora_sft as a person writes it with TRL, in bf16 on a GPU, without any of forge's code.

python bare_gpu.py BASE DATA DIR PARAMS.json prints what gpu_watch.py has seen and the loss of every step, as JSON.
"""

from __future__ import annotations

import json
import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from datasets import load_dataset
from gpu_watch import told, watch
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed
from trl import SFTConfig, SFTTrainer

base, data, directory, given = *sys.argv[1:4], json.loads(sys.argv[4])
lora = given["peft"] == "lora"
set_seed(42)
args = SFTConfig(
    output_dir=directory,
    max_steps=given["train.max_steps"],
    per_device_train_batch_size=given["train.batch_size"],
    learning_rate=given["train.learning_rate"],
    lr_scheduler_type="linear",
    warmup_steps=0,
    seed=42,
    max_length=given["train.max_length"],
    gradient_checkpointing=False,
    logging_steps=1,
    save_strategy="no",
    report_to="none",
    bf16=True,
    use_cpu=not torch.cuda.is_available(),
    disable_tqdm=True,
)
seen: dict = {}
watch(seen, given["warm"], given["train.max_steps"] - 1)
made = SFTTrainer(
    # weights that are trained are kept in 32 bits, those that are not in what is computed with
    model=AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16 if lora else torch.float32),
    args=args,
    train_dataset=load_dataset("json", data_files=data, split="train", cache_dir=f"{directory}/cache"),
    processing_class=AutoTokenizer.from_pretrained(base),
    peft_config=LoraConfig(task_type="CAUSAL_LM", r=8, lora_alpha=16, target_modules="all-linear") if lora else None,
)
made.train()
losses = [line["loss"] for line in made.state.log_history if "loss" in line]
print("\n" + json.dumps(told(seen, given["train.max_steps"] - 1 - given["warm"]) | {"losses": losses}))
