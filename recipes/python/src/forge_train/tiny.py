"""Make a tiny Llama-style base model and its tokenizer, offline: for the demo and for tests.

    python -m forge_train.tiny DIR [--seed N]

Equal seeds give equal bytes. It has learned nothing, and is small enough that a CPU core
trains several steps a second; in shape it is a model like any other (Llama, byte-level
BPE, chat template with the assistant's turns marked).
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from .tiny_corpus import TEXT

VOCABULARY = 512
OUTPUT_SPREAD = 0.15
CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] }}<|im_end|>\n{% endgeneration %}"
    "{% else %}{{ m['content'] }}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make(directory: Path, seed: int = 0) -> None:
    """Write config.json, model.safetensors and the tokenizer's files into a directory."""
    # the trainer breaks ties by the order in which threads report: one thread, one order
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    import torch
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    transformers.utils.logging.disable_progress_bar()
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<pad>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"],
        # all 256 bytes, else characters that the corpus lacks would vanish
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(TEXT.splitlines(), trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, pad_token="<pad>", bos_token="<s>", eos_token="</s>", model_max_length=256
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config)
    # At the usual 0.02 no hidden state of this width moves a logit far: the loss would stay
    # near log(512) whatever an adapter learns, and a demo would show a flat line.
    torch.nn.init.normal_(model.lm_head.weight, std=OUTPUT_SPREAD)
    directory.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m forge_train.tiny", description="Make a tiny base model, offline.")
    parser.add_argument("directory", type=Path, help="new or empty directory")
    parser.add_argument("--seed", type=int, default=0, help="seed of the weights (default 0)")
    args = parser.parse_args()
    if args.directory.exists() and (not args.directory.is_dir() or any(args.directory.iterdir())):
        parser.error(f"{args.directory} exists and is not an empty directory")
    make(args.directory, args.seed)
    print(args.directory)
    return 0


if __name__ == "__main__":
    sys.exit(main())
