"""What is trained of the model: an adapter (LoRA, or LoRA over a base in 4 bits), or all of it."""

from __future__ import annotations

import importlib.util

from .outcome import BadInput


def check(params: dict) -> None:
    """Refuse parameters that contradict each other."""
    merge = params.get("output.merge", "none")
    if merge != "none" and params["peft"] == "none":
        raise BadInput(f"output.merge is {merge} and peft is none, whose output is a whole model anyway; leave it out")
    if params["peft"] != "qlora":
        return
    if params["train.precision"] == "fp16":
        raise BadInput("peft is qlora, whose adapter is kept in bf16, and train.precision is fp16; use auto or bf16")
    if params["train.parallel"] == "fsdp":
        raise BadInput("peft is qlora, whose base is not split, and train.parallel is fsdp; use train.parallel=ddp")


def quantization(params: dict, device: str, dtype):
    """How the base is held: None as it is, else in 4 bits; refused where this node cannot do it."""
    if params["peft"] != "qlora":
        return None
    if device == "cpu":
        raise BadInput("peft is qlora, which needs a GPU; on CPU slots use peft=lora or peft=none")
    if importlib.util.find_spec("bitsandbytes") is None:
        raise BadInput(
            "peft is qlora, which needs the package bitsandbytes, and this Python environment does not have it; "
            "install it there, or use peft=lora"
        )
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        # what is read by its weight, or starts at random, stays as it is
        llm_int8_skip_modules=["lm_head", "score", "classifier"],
    )


def config(params: dict, model, task: str = "CAUSAL_LM"):
    """The PEFT configuration; None where the whole model is trained."""
    if params["peft"] == "none":
        return None
    from peft import LoraConfig

    return LoraConfig(
        task_type=task,
        r=params["lora.r"],
        lora_alpha=params["lora.alpha"],
        lora_dropout=params["lora.dropout"],
        target_modules=_targets(params["lora.target_modules"], model),
    )


def _targets(wanted: str, model) -> str | list[str]:
    if wanted.strip() == "all-linear":
        return "all-linear"
    names = [n.strip() for n in wanted.split(",") if n.strip()]
    have = sorted(
        {path.rsplit(".", 1)[-1] for path, m in model.named_modules() if type(m).__name__ in _LINEAR}
        - {"lm_head", "score", "classifier"}
    )
    unknown = [n for n in names if n.rsplit(".", 1)[-1] not in have]
    if unknown or not names:
        raise BadInput(
            f"parameter lora.target_modules names {', '.join(unknown) or 'nothing'}; "
            f"this base model has all-linear or any of {', '.join(have)}"
        )
    return names


_LINEAR = ("Linear", "Conv1D", "Linear4bit")
