"""A reward model: TRL's RewardTrainer under the rank contract.

python -m forge_train.reward        one process per rank, started by the shim

The base gets a scoring head of one output, which is trained whole and saved with the adapter or the model;
AutoModelForSequenceClassification (with an adapter AutoPeftModelForSequenceClassification, num_labels=1) loads it.
"""

from __future__ import annotations

from . import adapter, assemble
from .params import Param
from .start import Job, Recipe, leave
from .tables import CHECKPOINT, OUTPUT, PEFT, REPORT, TRAIN, over

PARAMS = (
    *PEFT,
    *over(TRAIN, Param("train.learning_rate", float, 1e-4, 0, 10)),
    Param("reward.center_coefficient", float, 0.0, 0, 1000),
    *CHECKPOINT,
    *REPORT,
    *OUTPUT,
)


def build(job: Job):
    """The trainer of one rank."""
    from trl import RewardConfig, RewardTrainer

    have = assemble.parts(job, "SEQ_CLS")
    assemble.without_dropout(have.model)
    own = {
        "center_rewards_coefficient": job.params["reward.center_coefficient"] or None,
        "disable_dropout": False,  # done above, but for the adapter's
    }
    return assemble.trainer(job, have, RewardTrainer, RewardConfig, own)


RECIPE = Recipe("reward", PARAMS, ("preference",), adapter.check, build)

if __name__ == "__main__":
    leave(RECIPE)
