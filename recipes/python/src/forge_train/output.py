"""What a run leaves: the adapter or the model, its tokenizer, training.json and the model card.

Rank 0 writes it; all ranks learn how that went. Nothing of it counts before the shim has loaded and hashed it.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from . import base, card, join
from .outcome import BadInput, Superseded
from .rundir import sync_tree, write_json

MERGED = "merged"  # below output/, where the adapter is kept as well


def write(job, trainer) -> None:
    """Write the output of a job; every rank calls it."""
    runtime, failure = job.runtime, None
    run = runtime.run
    weights = trainer.whole_weights()  # of a split model every rank has a part
    if runtime.first:
        try:
            run.check_fence()
            run.output.mkdir(parents=True, exist_ok=True, mode=0o750)
            _write(job, trainer, weights)
            sync_tree(run.output)
            run.check_fence()
        except (Superseded, BadInput, OSError) as e:
            failure = e
    # every rank ends the same way, whoever is looked at first
    error, kind = runtime.gang.gather((str(failure or ""), type(failure).__name__))[0]
    if error:
        kinds = {"Superseded": Superseded, "BadInput": BadInput}
        raise kinds[kind](error) if kind in kinds else OSError(f"the output could not be written: {error}")


def _write(job, trainer, weights: dict | None) -> None:
    run, merge = job.runtime.run, job.params.get("output.merge", "none")
    # a recipe whose trainer holds more than what it trains says which part is the result
    model = trainer.result() if hasattr(trainer, "result") else trainer.accelerator.unwrap_model(trainer.model)
    adapted = hasattr(model, "peft_config")
    place = run.output if merge != "merged" else run.config.parent / "adapter"
    # a second adapter is DPO's reference, and no result
    only = {"selected_adapters": ["default"]} if adapted else {}
    model.save_pretrained(place, state_dict=weights, **only)
    if adapted and job.start is not None:
        join.onto(place, job.start)
    if adapted and merge != "none":
        job.runtime.beat()
        whole = run.output if merge == "merged" else run.output / MERGED
        _merge(job, place, whole, trainer.processing_class)
        if merge == "merged":
            shutil.rmtree(place)
            adapted = False
        else:
            trainer.processing_class.save_pretrained(whole)
    trainer.processing_class.save_pretrained(run.output)
    facts = _training(job)
    write_json(run.output / "training.json", facts)
    card.write(run.output / "README.md", job, adapted, facts)


def _merge(job, adapter: Path, to: Path, tokenizer) -> None:
    """The adapter merged into the base, which is read anew: as it lies there, neither split nor in 4 bits."""
    from peft import PeftModel

    task = json.loads((adapter / join.CONFIG).read_bytes())["task_type"]
    model, _ = base.load(job.base, "auto", task, trust=job.trust)
    merged = PeftModel.from_pretrained(model, str(adapter), torch_device="cpu").merge_and_unload()
    if merged.config.pad_token_id is None:
        merged.config.pad_token_id = tokenizer.pad_token_id  # a reward model needs it for more than one text
    merged.save_pretrained(to)


def _training(job) -> dict[str, Any]:
    """training.json: what it was made from, for programs."""
    run, config = job.runtime.run, job.config
    facts = {
        "run_id": run.run_id,
        "attempt": run.attempt,
        "recipe": job.recipe.name,
        "params": job.params,
        "base": config.get("base"),
        "dataset": config.get("dataset"),
        "steps": job.runtime.step,
        "world_size": job.runtime.gang.world,
        "code": job.runtime.code,
    }
    return facts | {name: config[name] for name in ("start", "reward_model") if config.get(name)}
