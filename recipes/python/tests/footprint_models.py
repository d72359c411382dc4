"""Models with the proportions of real ones and none of their size, and runs on them, to count tensors in.

    python footprint_models.py DIR [NAME…]      every run of CONFIGS, or these

DIR/NAME.json says what it held, DIR/NAME/base has its model. COUNTED=DIR go test ./internal/footprint keeps what is
there as the record (testdata/counted.json), which the formulas are held against; make bench ONLY=estimate_error holds them against fresh counts.
"""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from pathlib import Path

from gang_of import SRC, Attempt

SIZES = {
    "hidden_size": 256,
    "intermediate_size": 688,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "vocab_size": 8192,
    "max_position_embeddings": 1024,
}

LENGTH = 192
STEPS = {"train__max_steps": 6, "checkpoint__every_steps": 100, "train__max_length": LENGTH, "lora__r": 8}

# name: (recipe, model_type, parameters)
CONFIGS = {
    "sft_lora_llama": ("lora_sft", "llama", {"peft": "lora"}),
    "sft_lora_bf16_qwen2": ("lora_sft", "qwen2", {"peft": "lora", "train__precision": "bf16", "train__batch_size": 2}),
    "sft_none_bf16_mistral": (
        "lora_sft",
        "mistral",
        {"peft": "none", "train__precision": "bf16", "train__batch_size": 2},
    ),
    "sft_checkpointing_qwen3": (
        "lora_sft",
        "qwen3",
        {"peft": "none", "train__gradient_checkpointing": True, "train__batch_size": 2},
    ),
    "dpo_lora_bf16_llama": (
        "dpo",
        "llama",
        {"peft": "lora", "train__precision": "bf16", "lora__target_modules": "q_proj,v_proj"},
    ),
    "dpo_none_gemma": ("dpo", "gemma", {"peft": "none"}),
    "reward_lora_llama": ("reward", "llama", {"peft": "lora", "train__batch_size": 2}),
    "sft_lora_bf16_checkpointing_gemma2": (
        "lora_sft",
        "gemma2",
        {"peft": "lora", "train__precision": "bf16", "train__gradient_checkpointing": True, "train__batch_size": 2},
    ),
}


if find_spec("forge_train.rlhf"):
    CONFIGS["grpo_lora_bf16_llama"] = (
        "rlhf",
        "llama",
        {
            "peft": "lora",
            "train__precision": "bf16",
            "train__batch_size": 4,
            "rlhf__algorithm": "grpo",
            "rlhf__num_generations": 2,
            "rlhf__reward_functions": "builtin:length",
            "generation__max_new_tokens": 64,
        },
    )
KINDS = {"lora_sft": "text", "dpo": "preference", "reward": "preference", "rlhf": "prompt"}


def make(directory: Path, model_type: str) -> Path:
    """A model of a type, with the tiny one's tokenizer."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    from forge_train import tiny

    tiny.make(directory)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    ids = {k: getattr(tokenizer, k) for k in ("pad_token_id", "bos_token_id", "eos_token_id")}
    config = AutoConfig.for_model(model_type, **SIZES, **ids)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(directory)
    return directory


def rows(path: Path, recipe: str, batch: int) -> Path:
    """Rows that are longer than what is learned from, and every second one half as long."""
    words = ("the usual reason is that it is set to silent", "slide the switch and look at the screen")
    out = []
    for i in range(8):
        long, short = (f"{w} {i} " * 40 for w in words)
        row = {"text": long if i % 2 == 0 or batch == 1 else long[: len(long) // 12]}
        if recipe != "lora_sft":
            row = {"prompt": f"why {i}? ", "chosen": long[:1200], "rejected": short[:150]}
        if recipe == "rlhf":
            row = {"prompt": f"why {i}? {long[: 100 + 15 * i]}"}
        elif recipe == "reward":  # whose trainer leaves longer rows out
            row["chosen"] = long[:300]
        out.append(json.dumps(row))
    path.write_text("\n".join(out) + "\n")
    return path


def measure(directory: Path, name: str) -> dict:
    """Carry out one run and return what it held."""
    recipe, model_type, params = CONFIGS[name]
    params = {k.replace("__", "."): v for k, v in (STEPS | params).items()}
    root = directory / name
    root.mkdir(parents=True)
    config = {
        "run_id": "01JTEST00000000000000000000",
        "run_number": 1,
        "recipe": recipe,
        "params": params,
        "dataset": {"name": "rows@1", "path": str(rows(root / "rows.jsonl", recipe, params.get("train.batch_size", 1)))},
        "dataset_kind": KINDS[recipe],
        "base": {"name": f"{model_type}@1", "path": str(make(root / "base", model_type))},
    }
    out = directory / f"{name}.json"
    attempt = Attempt(root / "run", 1, config)
    attempt.extra["PYTHONPATH"] = f"{SRC}:{Path(__file__).parent}"
    program = (str(Path(__file__).with_name("footprint_of.py")), recipe, str(out))
    codes = attempt.start(program, new_interpreter=True).wait(300)
    if codes != [0]:
        raise AssertionError(f"{name} ended with {codes}\n{attempt.logs()}")
    seen = {"recipe": recipe, "params": params, "base": str(root / "base"), "held": json.loads(out.read_text())}
    out.write_text(json.dumps(seen, indent=1, sort_keys=True))
    return seen


RECORD = SRC.parents[2] / "internal" / "footprint" / "testdata" / "counted.json"


def main() -> int:
    directory = Path(sys.argv[1])
    for name in sys.argv[2:] or CONFIGS:
        print(name, json.dumps(measure(directory, name)["held"], sort_keys=True), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
