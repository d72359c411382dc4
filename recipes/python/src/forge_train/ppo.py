"""PPO: a policy learns from rewards, with a value model that learns to foresee them.

TRL had a trainer of it until 1.12 and has none any more (docs/adr/0018), so this one is forge's own. A step is one update: the
policy answers a batch of prompts (rollout), the answers are scored, and policy and value model learn from them in
ppo.epochs passes over ppo.mini_batches parts. Checkpoints lie between two updates, where nothing is in flight.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .outcome import BadInput
from .params import Param

if TYPE_CHECKING:
    from .start import Job

# recipes/fragments/ppo.yaml has the same, and a test compares them
PPO = (
    Param("ppo.kl_coef", float, 0.05, 0, 100),
    Param("ppo.kl_estimator", str, "k1", choices=("k1", "k3")),
    Param("ppo.epochs", int, 4, 1, 1000),
    Param("ppo.mini_batches", int, 1, 1, 65536),
    Param("ppo.rollout_batch_size", int, 64, 1, 65536),
    Param("ppo.clip_range", float, 0.2, 0.0001, 100),
    Param("ppo.clip_range_value", float, 0.2, 0.0001, 1_000_000),
    Param("ppo.vf_coef", float, 0.1, 0, 1000),
    Param("ppo.gamma", float, 1.0, 0, 1),
    Param("ppo.lam", float, 0.95, 0, 1),
    Param("ppo.whiten_rewards", bool, False),
    Param("ppo.missing_eos_penalty", float, 0.0, 0, 1_000_000),
)


def per_update(params: dict) -> int:
    """Answers of one rank in one update."""
    return params["train.batch_size"] * params["train.gradient_accumulation_steps"] * params["ppo.mini_batches"]


def build(job: Job, rewards):
    """The trainer of one rank; rewards scores a Rollout (rewards.py)."""
    from transformers import PrinterCallback, TrainingArguments, set_seed

    from . import assemble, settings, value
    from .bridge import ContractCallback
    from .ppo_trainer import Trainer, asked

    params = job.params
    have = assemble.parts(job)
    assemble.without_dropout(have.model)
    rows = asked(job, have.tokenizer)
    least = per_update(params) * job.runtime.gang.world
    if len(rows) < least:
        raise BadInput(
            f"the dataset has {len(rows)} prompts and one update takes {least} (train.batch_size × "
            "train.gradient_accumulation_steps × ppo.mini_batches × ranks); give more prompts, or make one of those smaller"
        )
    reference = None
    if have.peft is None:
        reference = assemble.parts(job).model
        assemble.without_dropout(reference)
    policy = have.model if have.peft is None else assemble.adapted(job, have)
    model = value.PolicyAndValue(policy, value.begin(job, have))
    arguments = settings.arguments(job.runtime, params, have.number_format)
    del arguments["max_length"]
    arguments |= {
        # to transformers an update is one batch; what it is divided into is the trainer's own
        "per_device_train_batch_size": per_update(params),
        "gradient_accumulation_steps": 1,
        "dataloader_drop_last": True,  # an update is never smaller than the others
        "remove_unused_columns": False,
    }
    set_seed(params["train.seed"])
    trainer = Trainer(job, model, TrainingArguments(**arguments), rows, have.tokenizer, rewards, reference)
    trainer.remove_callback(PrinterCallback)
    trainer.attach(ContractCallback(job.runtime, params))
    return trainer
