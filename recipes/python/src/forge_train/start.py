"""One rank from its start to its last word, the same for every recipe.

The order matters: signals first (a TERM during the imports must not kill), then everything
that can be refused without torch, then the imports, then the other ranks, then what the recipe
itself is about, and at the end the output.
"""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import __version__, base, environment, mishap, report, rows
from .gang import Gang
from .outcome import FAILED, BadInput, Checkpointed, Ended, NodeEnvironment, Superseded
from .params import Param, read_params
from .rundir import RunDir, sync_tree, write_json
from .runtime import Runtime
from .tables import CHECKPOINT, REPORT


@dataclass(frozen=True)
class Recipe:
    """What tells one recipe from another; the rest is here."""

    name: str
    params: tuple[Param, ...]  # the same table as recipes/NAME.yaml; a test compares them
    kinds: tuple[str, ...]  # of datasets
    check: Callable[[dict], None]  # of parameters that contradict each other: BadInput, before torch is imported
    build: Callable[[Job], Any]  # a trainer that has its ContractCallback attached


@dataclass(frozen=True)
class Job:
    """What a recipe builds its trainer from."""

    recipe: Recipe
    runtime: Runtime
    params: dict[str, Any]
    base: Path
    data: rows.Rows
    trust: bool = False  # the site lets base models bring Python code of their own


def main(recipe: Recipe, work: Callable[[Recipe, Runtime], None] | None = None) -> int:
    """Run one rank to its end; return the exit code of the contract. work is what it does, where that is not training."""
    try:
        run = RunDir.from_environment()
        gang = Gang.from_environment()
    except Ended as e:  # without these there is no status file to write to
        print(e, file=sys.stderr)
        return e.code
    runtime = Runtime(run, gang)
    runtime.listen()
    try:
        (work or train)(recipe, runtime)
    except Ended as e:
        return runtime.finish(e)
    except Exception as e:
        code = runtime.finish(e)
        if code == FAILED:
            traceback.print_exc()
        return code
    return runtime.finish(None)


def leave(recipe: Recipe, work: Callable[[Recipe, Runtime], None] | None = None) -> None:
    """The end of the program, by the recipe's own code."""
    code = main(recipe, work)
    sys.stdout.flush()
    sys.stderr.flush()
    # no interpreter teardown: after a failure it can wait for ever on a collective's threads
    os._exit(code)


def train(recipe: Recipe, runtime: Runtime) -> None:
    """The whole of it; ends by returning (done) or by raising how it ended."""
    run, gang = runtime.run, runtime.gang
    runtime.code = {"forge_train": __version__, "sha256": environment.code_digest()}
    config = run.read_config()
    params = read_params(recipe.params, config.get("params") or {})
    recipe.check(params)
    watched = {p.name: p.default for p in (*CHECKPOINT, *REPORT)} | params
    mishap.check(watched)
    trackers = report.chosen(watched)  # on every rank, so that all end alike
    runtime.trackers = report.Trackers(run, watched, runtime.say, trackers if runtime.first else ())
    runtime.about = _about(recipe, config, params)
    runtime.code |= environment.check()
    run.check_fence()
    base_path, data_path = _input(recipe, config, "base"), _input(recipe, config, "dataset")
    data = rows.inspect(
        data_path, config.get("dataset_kind") or "", recipe.kinds, params.get("train.assistant_only_loss", False)
    )
    trust = config.get("trust_remote_code") is True
    base.inspect(base_path, data.conversational, params["train.chat_template"], trust)
    runtime.stop_if_cancelled()

    import_libraries(quiet=gang.rank != 0)
    gang.choose_device()
    gang.join()
    runtime.stop_if_cancelled()
    trainer = mishap.train(Job(recipe, runtime, params, base_path, data, trust))
    if runtime.step < runtime.total_steps:
        raise Checkpointed(f"saved at step {runtime.step} of {runtime.total_steps} on request")
    _write_output(recipe, runtime, trainer, params, config)
    gang.leave()


def _input(recipe: Recipe, config: dict, name: str) -> Path:
    value: Any = config.get(name)
    path = value.get("path") if isinstance(value, dict) else value
    if not isinstance(path, str) or not path:
        raise BadInput(f"the configuration names no {name}: {recipe.name} needs a base model and a dataset")
    if not os.path.isabs(path):
        raise BadInput(f"{name} path {path} is not absolute")
    return Path(path)


def _about(recipe: Recipe, config: dict, params: dict) -> dict[str, Any]:
    """What the manifest of every checkpoint says of what it was made from."""
    about = {"recipe": recipe.name, "parallel": params.get("train.parallel", "ddp")}
    for name in ("base", "dataset"):
        value = config.get(name)
        if isinstance(value, dict) and value.get("sha256"):
            about[f"{name}_sha256"] = value["sha256"]
    return about


def import_libraries(quiet: bool) -> None:
    """Import what training needs; NodeEnvironment when this node's does not do."""
    # No network, no telemetry, no progress bars in log files; ranks fork nothing.
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"):
        os.environ.setdefault(name, "1")
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # the libraries' notes to their own callers; nobody who reads a run's log can act on them
    warnings.simplefilter("ignore", FutureWarning)
    warnings.simplefilter("ignore", DeprecationWarning)
    try:
        import datasets
        import peft  # noqa: F401
        import torch  # noqa: F401
        import transformers
        import trl  # noqa: F401
    except (ImportError, OSError) as e:  # OSError: a shared library of torch that is not there
        raise NodeEnvironment(f"the Python environment {sys.prefix} does not import: {e}") from e
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error() if quiet else transformers.utils.logging.set_verbosity_warning()


def _write_output(recipe: Recipe, runtime: Runtime, trainer, params: dict, config: dict) -> None:
    """Rank 0 writes the model or adapter, the tokenizer and training.json; all ranks learn how it went."""
    run, failure = runtime.run, None
    weights = trainer.whole_weights()  # of a split model every rank has a part
    if runtime.first:
        try:
            run.check_fence()
            run.output.mkdir(parents=True, exist_ok=True, mode=0o750)
            model = trainer.accelerator.unwrap_model(trainer.model)
            # a second adapter is DPO's reference, and no result
            only = {"selected_adapters": ["default"]} if hasattr(model, "peft_config") else {}
            model.save_pretrained(run.output, state_dict=weights, **only)
            trainer.processing_class.save_pretrained(run.output)
            write_json(
                run.output / "training.json",
                {
                    "run_id": run.run_id,
                    "attempt": run.attempt,
                    "recipe": recipe.name,
                    "params": params,
                    "base": config.get("base"),
                    "dataset": config.get("dataset"),
                    "steps": runtime.step,
                    "world_size": runtime.gang.world,
                    "code": runtime.code,
                },
            )
            sync_tree(run.output)
            run.check_fence()
        except (Superseded, OSError) as e:
            failure = e
    # every rank ends the same way, whoever is looked at first
    error, fenced = runtime.gang.gather((str(failure or ""), isinstance(failure, Superseded)))[0]
    if fenced:
        raise Superseded(error)
    if error:
        raise OSError(f"the output could not be written: {error}")
