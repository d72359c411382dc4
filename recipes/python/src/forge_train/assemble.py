"""From a job to its trainer: what the recipes that train with TRL have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from . import adapter, base, join, settings, sharded
from .outcome import BadInput
from .start import Job


@dataclass(frozen=True)
class Parts:
    """What a trainer is put together from."""

    number_format: str
    model: Any
    tokenizer: Any
    peft: Any  # the adapter's configuration; None where the whole model is trained


def parts(job: Job, task: str = "CAUSAL_LM") -> Parts:
    """Load the base model, with a scoring head of one output for the task SEQ_CLS; the start adapter is merged into it."""
    import torch
    from transformers import set_seed

    params, device = job.params, job.runtime.gang.device
    sharded.check_resume(job.runtime.run.resume_from, params)
    number_format = settings.precision(params["train.precision"], device)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[number_format]
    if params["peft"] == "none":
        dtype = torch.float32  # weights that are trained; a step of 1e-5 is lost in bf16. Autocast computes in the format
    set_seed(params["train.seed"])  # a new head starts at random
    quantization = adapter.quantization(params, device, dtype)
    model, _ = base.load(job.base, dtype, task, quantization, params["train.chat_template"], job.trust)
    if job.start is not None:
        model = join.merge_into(model, job.start, task)
    return Parts(number_format, model, tokenizer(job), adapter.config(params, model, task))


def tokenizer(job: Job):
    """The tokenizer alone: the start adapter's where it brings one, with the template that it was trained with, else the base's."""
    of_base = base.tokenizer(job.base, job.params["train.chat_template"], job.trust)
    if job.start is None or job.start.tokenizer is None:
        return of_base
    own = base.tokenizer(job.start.tokenizer, job.params["train.chat_template"], job.trust)
    join.check_tokenizer(job.start, own, of_base)
    return own


def trainer(job: Job, have: Parts, kind: type, arguments: type, own: dict, **more):
    """A TRL trainer of a kind, with its arguments, under the rank contract; own are the recipe's arguments."""
    from dataclasses import fields

    from transformers import PrinterCallback, set_seed

    from .bridge import ContractCallback, ContractTrainer

    params = job.params
    made = type("Trainer", (ContractTrainer, sharded.Sharded, kind), {"__doc__": f"{kind.__name__} under the rank contract."})
    common = settings.arguments(job.runtime, params, have.number_format)
    takes = {f.name for f in fields(arguments)}
    common = {k: v for k, v in common.items() if k in takes or k != "max_length"}  # trainers that generate have none
    set_seed(params["train.seed"])  # the adapter starts at random; TRL before 1.16 seeds only after that
    try:
        trainer = made(
            model=have.model,
            args=arguments(**common, **own),
            train_dataset=job.data.to_dataset(),
            processing_class=have.tokenizer,
            peft_config=have.peft,
            **more,
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
    trainer.attach(ContractCallback(job.runtime, params))
    return trainer


def adapted(job: Job, have: Parts):
    """The model with its adapter, where the trainer must find one."""
    from peft import get_peft_model
    from transformers import set_seed

    set_seed(job.params["train.seed"])
    return get_peft_model(have.model, have.peft)


def without_dropout(model) -> None:
    """Turn the base's own dropout off, before an adapter brings its own.

    TRL turns off all of it where a model is compared with itself, and would ignore lora.dropout without a word.
    """
    from torch import nn

    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
