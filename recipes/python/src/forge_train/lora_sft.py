"""Supervised fine-tuning: TRL's SFTTrainer under the rank contract.

python -m forge_train.lora_sft        one process per rank, started by the shim
"""

from __future__ import annotations

from pathlib import Path

from . import adapter, base, settings
from .outcome import BadInput
from .params import Param
from .start import Job, Recipe, leave
from .tables import CHECKPOINT, PEFT, REPORT, TRAIN

PARAMS = (
    *PEFT,
    *TRAIN,
    Param("train.packing", bool, False),
    Param("train.assistant_only_loss", bool, False),
    *CHECKPOINT,
    *REPORT,
)


def check(params: dict) -> None:
    """Nothing contradicts here."""


def build(job: Job):
    """The trainer of one rank."""
    import torch
    from transformers import PrinterCallback, set_seed
    from trl import SFTConfig, SFTTrainer

    from .bridge import ContractCallback, ContractTrainer

    class Trainer(ContractTrainer, SFTTrainer):
        """SFTTrainer that watches for values that are not finite."""

    params = job.params
    number_format = settings.precision(params["train.precision"], job.runtime.gang.device)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[number_format]
    model, tokenizer = base.load(job.base, dtype)
    peft = adapter.config(params, model)
    if params["train.assistant_only_loss"]:
        _check_markers(tokenizer, job.base)
    arguments = SFTConfig(
        **settings.arguments(job.runtime, params, number_format),
        packing=params["train.packing"],
        assistant_only_loss=params["train.assistant_only_loss"],
    )
    set_seed(params["train.seed"])  # the adapter starts at random; TRL before 1.16 seeds only after that
    try:
        trainer = Trainer(
            model=model,
            args=arguments,
            train_dataset=job.data.to_dataset(),
            processing_class=tokenizer,
            peft_config=peft,
        )
    except Exception as e:
        if type(e).__module__.startswith("jinja2"):
            raise BadInput(f"the chat template of {job.base} refuses a row of the dataset: {e}") from e
        raise
    if len(trainer.train_dataset) == 0:
        raise BadInput(
            f"no row has anything to learn from within train.max_length = {params['train.max_length']} tokens; raise it"
        )
    trainer.remove_callback(PrinterCallback)
    trainer.attach(ContractCallback(job.runtime, job.params))
    return trainer


def _check_markers(tokenizer, base_path: Path) -> None:
    """Refuse a chat template that cannot say which tokens are the assistant's."""
    from trl.chat_template_utils import get_training_chat_template

    try:
        get_training_chat_template(tokenizer)
    except ValueError as e:
        raise BadInput(
            "train.assistant_only_loss is on, and the chat template of "
            f"{base_path} does not mark the assistant's turns with {{% generation %}}"
        ) from e


RECIPE = Recipe("lora_sft", PARAMS, ("messages", "text", "prompt_completion"), check, build)

if __name__ == "__main__":
    leave(RECIPE)
