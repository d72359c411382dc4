"""Learning from rewards: our own PPO, or TRL's GRPOTrainer and RLOOTrainer under the rank contract.

python -m forge_train.rlhf        one process per rank, started by the shim

The policy writes answers to prompts, a reward model or reward functions say what each is worth, and the policy learns to
write what is worth more, held to the model that it started from.
"""

from __future__ import annotations

import importlib.util
import sys

from . import adapter, assemble, ppo, prompts, rewards, settings
from .outcome import BadInput
from .params import Param
from .start import Inputs, Job, Recipe, leave
from .tables import CHECKPOINT, GENERATION, OUTPUT, PEFT, REPORT, TRAIN, over

RLHF = (
    Param("rlhf.algorithm", str, "ppo", choices=("ppo", "grpo", "rloo")),
    Param("rlhf.reward_functions", str, ""),
    Param("rlhf.reward_weights", str, ""),
    Param("rlhf.reward_timeout", float, 60.0, 0.1, 86400),
    Param("rlhf.num_generations", int, 8, 2, 4096),
    Param("rlhf.num_iterations", int, 1, 1, 1000),
    Param("rlhf.beta", float, 0.05, 0, 100),
    Param("rlhf.samples_every", int, 10, 0, 100_000_000),
    Param("rlhf.samples", int, 4, 1, 64),
)
PARAMS = (
    *PEFT,
    *over(TRAIN, Param("train.learning_rate", float, 1e-5, 0, 10), Param("train.batch_size", int, 8, 1, 65536)),
    *GENERATION,
    *RLHF,
    *ppo.PPO,
    *CHECKPOINT,
    *REPORT,
    *OUTPUT,
)


def check(params: dict) -> None:
    """Refuse parameters that contradict each other."""
    adapter.check(params)
    if params["train.parallel"] == "fsdp":
        raise BadInput("train.parallel is fsdp, and a policy that is split over ranks cannot write answers; use ddp")
    if params["generation.max_new_tokens"] >= params["train.max_length"]:
        raise BadInput(
            f"generation.max_new_tokens is {params['generation.max_new_tokens']} and train.max_length "
            f"{params['train.max_length']}, which is prompt and answer together: no prompt has room; raise train.max_length"
        )
    if params["rlhf.algorithm"] == "ppo" and params["generation.backend"] == "vllm":
        raise BadInput("generation.backend is vllm, which grpo and rloo can use and ppo cannot; use hf")


def inputs(given: Inputs) -> None:
    """Refuse rewards that cannot work."""
    rewards.check(given.config, given.params, given.base, given.work)


def build(job: Job):
    """The trainer of one rank."""
    import torch

    params, gang = job.params, job.runtime.gang
    _check_backend(job)
    tokenizer = assemble.tokenizer(job)
    number_format = settings.precision(params["train.precision"], gang.device)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[number_format]
    asked = rewards.Rewards(job, tokenizer, dtype)
    most = prompts.longest(params, prompts.context(job.base), asked.model.longest if asked.model else 0)
    rewards.together(gang, lambda: prompts.check(tokenizer, job.data.read(), *most))
    return ppo.build(job, asked) if params["rlhf.algorithm"] == "ppo" else _compared(job, asked)


def _compared(job: Job, asked: rewards.Rewards):
    """GRPO or RLOO: answers to one prompt are compared with each other."""
    import trl

    from .rollouts import Rollouts
    from .samples import Samples

    params, algorithm = job.params, job.params["rlhf.algorithm"].upper()
    kind, arguments = getattr(trl, f"{algorithm}Trainer"), getattr(trl, f"{algorithm}Config")
    _check_groups(job)
    have = assemble.parts(job)
    assemble.without_dropout(have.model)
    have.model.generation_config.eos_token_id = prompts.ends(have.tokenizer, have.model, job.data.conversational)
    own = {
        "num_generations": params["rlhf.num_generations"],
        "num_iterations": params["rlhf.num_iterations"],
        "max_completion_length": params["generation.max_new_tokens"],
        "temperature": params["generation.temperature"],
        "top_p": params["generation.top_p"],
        "top_k": params["generation.top_k"],
        "beta": params["rlhf.beta"],
        "reward_weights": list(asked.weights),
        "disable_dropout": False,  # done above, but for the adapter's
    }
    if params["generation.backend"] == "vllm":
        own |= {"use_vllm": True, "vllm_mode": "colocate"}
    together = type(f"{algorithm}Rollouts", (Rollouts, kind), {"__doc__": f"{kind.__name__} whose answers outlive it."})
    trainer = assemble.trainer(job, have, together, arguments, own, reward_funcs=[_named(n) for n in asked.names])
    trainer.rewards, trainer.samples = asked, Samples(job.runtime, params)
    return trainer


def _named(name: str):
    """What TRL takes a reward's name from; Rollouts asks the rewards themselves."""

    def function(**_):
        raise AssertionError(f"{name} is asked by Rollouts")

    function.__name__ = name
    return function


def _check_groups(job: Job) -> None:
    """A step has whole groups of answers, and the dataset enough prompts for one."""
    params, world = job.params, job.runtime.gang.world
    batch, passes, group = (params[n] for n in ("train.batch_size", "train.gradient_accumulation_steps", "rlhf.num_generations"))
    answers = batch * passes * world
    if answers % group:
        raise BadInput(
            f"a step has {answers} answers (train.batch_size {batch} x train.gradient_accumulation_steps {passes} x {world} ranks), "
            f"which is no multiple of rlhf.num_generations = {group}; change one of them"
        )
    if job.data.count < answers // group:
        raise BadInput(
            f"a step takes {answers // group} prompts ({answers} answers, rlhf.num_generations = {group} for each) and the dataset "
            f"has {job.data.count}; lower train.batch_size or train.gradient_accumulation_steps"
        )


def _check_backend(job: Job) -> None:
    """Refuse a backend that this node has not."""
    if job.params["generation.backend"] != "vllm":
        return
    if job.runtime.gang.device == "cpu":
        raise BadInput("generation.backend is vllm, which needs a GPU; on CPU slots use generation.backend=hf")
    if importlib.util.find_spec("vllm") is None:
        raise BadInput(
            f"generation.backend is vllm, which needs the package vllm, and the Python environment {sys.prefix} does not have it; "
            "install it there (pip install 'trl[vllm]' takes a release that TRL works with), or use generation.backend=hf"
        )


RECIPE = Recipe("rlhf", PARAMS, ("prompt",), check, build, inputs)

if __name__ == "__main__":
    leave(RECIPE)
