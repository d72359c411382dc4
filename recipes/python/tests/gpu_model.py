"""Makes the model of half a billion weights that the tests on a GPU train: gpu_model.py DIRECTORY. It has nothing of the tests' in it,
because what they import hides the GPU.

FORGE_GPU_DRYRUN=1 makes it small, and on the CPU.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

DRY = bool(os.environ.get("FORGE_GPU_DRYRUN"))
# Qwen2.5-0.5B's shape, or nothing of its size
SHAPE = {
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "vocab_size": 151936,
} if not DRY else {
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 1024,
}


def make(directory: Path) -> None:
    """Random weights, stored in bf16, with the tiny one's tokenizer filled up to nearly as many words as it has."""
    import torch
    from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

    from forge_train import tiny

    tiny.make(directory)
    file = directory / "tokenizer.json"
    doc = json.loads(file.read_text())
    vocabulary = doc["model"]["vocab"]
    for i in range(len(vocabulary), SHAPE["vocab_size"] - 64):  # a little fewer, as real ones: reading it as a Qwen tokenizer adds one
        vocabulary[f"w{i}"] = i
    file.write_text(json.dumps(doc))
    tokenizer = AutoTokenizer.from_pretrained(directory)
    ids = {k: getattr(tokenizer, k) for k in ("pad_token_id", "bos_token_id", "eos_token_id")}
    config = Qwen2Config(**SHAPE, **ids, max_position_embeddings=4096, tie_word_embeddings=True)
    torch.manual_seed(0)
    with torch.device("cpu" if DRY else "cuda"):
        model = Qwen2ForCausalLM(config)
    model.to(torch.bfloat16).save_pretrained(directory)


if __name__ == "__main__":
    whole = Path(sys.argv[1])
    aside = whole.with_name(whole.name + ".making")
    make(aside)
    aside.rename(whole)
