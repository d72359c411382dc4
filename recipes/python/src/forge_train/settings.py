"""The training parameters as TRL's trainers take them: what is the same for every recipe."""

from __future__ import annotations

from .gang import TIMEOUT
from .outcome import BadInput
from .runtime import Runtime


def precision(wanted: str, device: str) -> str:
    """The number format, refused where this device has none of it."""
    import torch

    if device == "cpu":
        if wanted == "fp16":
            raise BadInput("train.precision is fp16, which needs a GPU; on CPU slots use auto, fp32 or bf16")
        return "fp32" if wanted == "auto" else wanted
    supported = torch.cuda.is_bf16_supported(including_emulation=False)
    if wanted == "bf16" and not supported:
        raise BadInput(
            f"train.precision is bf16, which {torch.cuda.get_device_name()} does not have; use auto, fp16 or fp32"
        )
    if wanted == "auto":
        return "bf16" if supported else "fp32"
    return wanted


def arguments(runtime: Runtime, params: dict, number_format: str) -> dict:
    """Keyword arguments of any transformers.TrainingArguments."""
    cpu = runtime.gang.device == "cpu"
    several = {"ddp_backend": "gloo" if cpu else "nccl", "ddp_timeout": int(TIMEOUT.total_seconds())}
    return dict(
        output_dir=str(runtime.run.checkpoints),
        learning_rate=params["train.learning_rate"],
        num_train_epochs=params["train.epochs"],
        max_steps=params["train.max_steps"] or -1,
        per_device_train_batch_size=params["train.batch_size"],
        gradient_accumulation_steps=params["train.gradient_accumulation_steps"],
        # below 1 transformers reads a share of the steps, from 1 on a number of steps
        warmup_steps=min(params["train.warmup_ratio"], 1 - 1e-9),
        lr_scheduler_type=params["train.lr_scheduler"],
        weight_decay=params["train.weight_decay"],
        max_grad_norm=params["train.max_grad_norm"],
        seed=params["train.seed"],
        max_length=params["train.max_length"],
        full_determinism=params["train.deterministic"],
        logging_steps=params["train.logging_steps"],
        save_strategy="steps",
        save_steps=params["checkpoint.every_steps"],
        save_total_limit=None,  # retention is ours: theirs goes by mtime and knows no manifests
        bf16=number_format == "bf16",
        fp16=number_format == "fp16",
        use_cpu=cpu,
        dataloader_pin_memory=not cpu,
        # Every adapter takes part in every step. But to look for what does not keeps DDP from laying gradients out anew
        # after the first step of a process, and of three ranks or more the layout decides in which order they are summed.
        ddp_find_unused_parameters=params["train.deterministic"] and runtime.gang.world > 2,
        logging_nan_inf_filter=False,  # it would replace NaN by the last mean, and hide it
        disable_tqdm=True,
        report_to="none",
        push_to_hub=False,
        **(several if runtime.gang.world > 1 else {}),
        **_parallel(runtime, params),
    )


def _parallel(runtime: Runtime, params: dict) -> dict:
    if params["train.parallel"] == "ddp":
        return {"gradient_checkpointing": params["train.gradient_checkpointing"]}
    if runtime.gang.world == 1:
        raise BadInput(
            "train.parallel is fsdp, which splits the model over several ranks, and this run has one; "
            "ask for more GPUs, or use train.parallel=ddp"
        )
    split = {"version": 2, "state_dict_type": "SHARDED_STATE_DICT"}
    if params["train.gradient_checkpointing"]:  # theirs would gather each layer twice
        split["activation_checkpointing"] = True
    return {"fsdp": True, "fsdp_config": split, "gradient_checkpointing": False}
