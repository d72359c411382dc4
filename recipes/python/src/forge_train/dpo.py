"""Preference training: TRL's DPOTrainer under the rank contract.

python -m forge_train.dpo        one process per rank, started by the shim

The policy is compared with a reference, the model that it started from. With an adapter that is the same
model with its adapter disabled (or with a second, frozen one); without, a second copy of the base.
"""

from __future__ import annotations

from . import adapter, assemble
from .outcome import BadInput
from .params import Param
from .start import Job, Recipe, leave
from .tables import CHECKPOINT, OUTPUT, PEFT, REPORT, TRAIN, over

# what label_smoothing means to a loss, it means to these; the others would ignore it
_SMOOTHED = ("robust", "exo_pair")

PARAMS = (
    *PEFT,
    *over(TRAIN, Param("train.learning_rate", float, 1e-5, 0, 10)),
    Param("dpo.beta", float, 0.1, 0, 100),
    Param(
        "dpo.loss_type",
        str,
        "sigmoid",
        choices=("sigmoid", "hinge", "ipo", "robust", "exo_pair", "nca_pair", "apo_zero", "apo_down"),
    ),
    Param("dpo.label_smoothing", float, 0.0, 0, 0.499),
    Param("dpo.reference", str, "disabled_adapter", choices=("disabled_adapter", "second_adapter")),
    *CHECKPOINT,
    *REPORT,
    *OUTPUT,
)


def check(params: dict) -> None:
    """Refuse parameters that contradict each other."""
    adapter.check(params)
    loss, smoothing = params["dpo.loss_type"], params["dpo.label_smoothing"]
    if loss == "exo_pair" and smoothing == 0:
        raise BadInput("dpo.loss_type is exo_pair, which needs dpo.label_smoothing above 0; 0.001 is common")
    if smoothing > 0 and loss not in _SMOOTHED:
        raise BadInput(
            f"dpo.label_smoothing is {smoothing:g}, which only the losses {' and '.join(_SMOOTHED)} use; "
            f"dpo.loss_type is {loss}"
        )
    if params["dpo.reference"] == "second_adapter":
        if params["peft"] == "none":
            raise BadInput("dpo.reference is second_adapter and peft is none, which has no adapter; leave it out")
        if params["train.parallel"] == "fsdp":
            raise BadInput("dpo.reference is second_adapter, which train.parallel=fsdp cannot split; use ddp")


def build(job: Job):
    """The trainer of one rank."""
    from dataclasses import replace

    from trl import DPOConfig, DPOTrainer

    have = assemble.parts(job)
    assemble.without_dropout(have.model)
    own = {
        "beta": job.params["dpo.beta"],
        "loss_type": [job.params["dpo.loss_type"]],
        "label_smoothing": job.params["dpo.label_smoothing"],
        "disable_dropout": False,  # done above, but for the adapter's
    }
    reference = None
    if job.params["peft"] == "none":
        reference = assemble.parts(job).model
        assemble.without_dropout(reference)
    elif job.params["dpo.reference"] == "second_adapter":
        have = replace(have, model=assemble.adapted(job, have), peft=None)  # TRL adds a frozen copy of what it finds
    return assemble.trainer(job, have, DPOTrainer, DPOConfig, own, ref_model=reference)


RECIPE = Recipe("dpo", PARAMS, ("preference",), check, build)

if __name__ == "__main__":
    leave(RECIPE)
