"""Parameters that recipes share, as tables: recipes/fragments/*.yaml has the same, and a test compares them."""

from __future__ import annotations

from .params import Param


def over(table: tuple[Param, ...], *own: Param) -> tuple[Param, ...]:
    """A table with a recipe's own word on some of its parameters."""
    named = {p.name: p for p in own}
    return tuple(named.get(p.name, p) for p in table)


TRAIN = (
    Param("train.learning_rate", float, 2e-4, 0, 10),
    Param("train.epochs", float, 1.0, 0.001, 1000),
    Param("train.max_steps", int, 0, 0, 100_000_000),
    Param("train.batch_size", int, 1, 1, 65536),
    Param("train.gradient_accumulation_steps", int, 1, 1, 65536),
    Param("train.warmup_ratio", float, 0.03, 0, 1),
    Param("train.lr_scheduler", str, "linear", choices=("linear", "cosine", "constant", "constant_with_warmup")),
    Param("train.weight_decay", float, 0.0, 0, 10),
    Param("train.max_grad_norm", float, 1.0, 0, 1_000_000),
    Param("train.seed", int, 42, 0, 4294967295),
    Param("train.max_length", int, 1024, 8, 1_048_576),
    Param("train.gradient_checkpointing", bool, False),
    Param("train.precision", str, "auto", choices=("auto", "fp32", "bf16", "fp16")),
    Param("train.parallel", str, "ddp", choices=("ddp", "fsdp")),
    Param("train.deterministic", bool, False),
    Param("train.logging_steps", int, 1, 1, 1_000_000),
    Param("train.chat_template", str, "auto", choices=("auto", "tokenizer", "chatml")),
)

PEFT = (
    Param("peft", str, "lora", choices=("lora", "qlora", "none")),
    Param("lora.r", int, 8, 1, 1024),
    Param("lora.alpha", float, 16.0, 0.001, 4096),
    Param("lora.dropout", float, 0.0, 0, 0.9),
    Param("lora.target_modules", str, "all-linear"),
)

CHECKPOINT = (
    Param("checkpoint.every_steps", int, 50, 1, 100_000_000),
    Param("checkpoint.keep_last", int, 2, 2, 1000),
    Param("checkpoint.keep_every", int, 0, 0, 100_000_000),
    Param("checkpoint.keep_best", str, "none", choices=("none", "loss")),
    Param("checkpoint.on_full_disk", str, "go_on", choices=("go_on", "stop")),
)

REPORT = (
    Param("metrics.on_nan", str, "stop", choices=("stop", "roll_back")),
    Param("metrics.spike_factor", float, 0.0, 0, 1_000_000),
    Param("metrics.on_spike", str, "go_on", choices=("go_on", "stop", "roll_back")),
    Param("metrics.max_roll_backs", int, 3, 1, 1000),
    Param("report.to", str, ""),
    Param("report.project", str, "forge"),
)

OUTPUT = (Param("output.merge", str, "none", choices=("none", "merged", "both")),)

GENERATION = (
    Param("generation.max_new_tokens", int, 256, 1, 1_048_576),
    Param("generation.temperature", float, 1.0, 0.01, 100),
    Param("generation.top_p", float, 1.0, 0.001, 1),
    Param("generation.top_k", int, 0, 0, 1_048_576),
    Param("generation.backend", str, "hf", choices=("hf", "vllm")),
)
