"""What is trained of the model: an adapter (LoRA, or LoRA over a quantised base), or all of it."""

from __future__ import annotations

from .outcome import BadInput


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
        {path.rsplit(".", 1)[-1] for path, m in model.named_modules() if type(m).__name__ in ("Linear", "Conv1D")}
        - {"lm_head"}
    )
    unknown = [n for n in names if n.rsplit(".", 1)[-1] not in have]
    if unknown or not names:
        raise BadInput(
            f"parameter lora.target_modules names {', '.join(unknown) or 'nothing'}; "
            f"this base model has all-linear or any of {', '.join(have)}"
        )
    return names
