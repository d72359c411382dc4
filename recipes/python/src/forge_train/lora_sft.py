"""Supervised fine-tuning: TRL's SFTTrainer under the rank contract.

python -m forge_train.lora_sft        one process per rank, started by the shim
"""

from __future__ import annotations

from pathlib import Path

from . import adapter, assemble
from .outcome import BadInput
from .params import Param
from .start import Job, Recipe, leave
from .tables import CHECKPOINT, OUTPUT, PEFT, REPORT, TRAIN

PARAMS = (
    *PEFT,
    *TRAIN,
    Param("train.packing", bool, False),
    Param("train.assistant_only_loss", bool, False),
    *CHECKPOINT,
    *REPORT,
    *OUTPUT,
)


def build(job: Job):
    """The trainer of one rank."""
    from trl import SFTConfig, SFTTrainer

    have = assemble.parts(job)
    if job.params["train.assistant_only_loss"]:
        _check_markers(have.tokenizer, job.base)
    own = {
        "packing": job.params["train.packing"],
        "assistant_only_loss": job.params["train.assistant_only_loss"],
    }
    return assemble.trainer(job, have, SFTTrainer, SFTConfig, own)


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


RECIPE = Recipe("lora_sft", PARAMS, ("messages", "text", "prompt_completion"), adapter.check, build)

if __name__ == "__main__":
    leave(RECIPE)
