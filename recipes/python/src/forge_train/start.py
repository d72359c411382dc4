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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import __version__, base, environment, join, mishap, output, report, rows
from .gang import Gang
from .outcome import FAILED, BadInput, Checkpointed, Ended, NodeEnvironment
from .params import Param, read_params
from .rundir import RunDir
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
    inputs: Callable[[Inputs], None] | None = None  # what it takes beside dataset and base: BadInput, before torch is imported


@dataclass(frozen=True)
class Inputs:
    """What a run is given, before anything of it is loaded."""

    config: dict
    params: dict[str, Any]
    base: Path
    work: Path  # the copy of the directory that the run brought; there may be none


@dataclass(frozen=True)
class Job:
    """What a recipe builds its trainer from."""

    recipe: Recipe
    runtime: Runtime
    params: dict[str, Any]
    base: Path
    data: rows.Rows
    trust: bool = False  # the site lets base models bring Python code of their own
    config: dict = field(default_factory=dict)  # the whole of config.json
    start: join.Start | None = None  # the adapter over base that training begins from


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
        data_path, config.get("dataset_kind") or "", recipe.kinds, params.get("train.assistant_only_loss", False), config
    )
    trust = config.get("trust_remote_code") is True
    start = None
    if config.get("start"):
        start = join.inspect(_input(recipe, config, "start"), config["start"], config.get("base"))
        if params.get("peft") == "qlora":
            raise BadInput(
                f"peft is qlora and the run begins from the adapter {start.name}: it would be rounded to 4 bits with the "
                "base. Use peft=lora, or merge it into its base (output.merge=merged) and take that model as the base"
            )
        runtime.about["start_weights_sha256"] = start.sha256
    join.check_resume(run.resume_from, start)
    tokenizer = start.tokenizer if start else None
    base.inspect(base_path, data.conversational, params["train.chat_template"], trust, tokenizer)
    if recipe.inputs:
        recipe.inputs(Inputs(config, params, base_path, run.work))
    runtime.stop_if_cancelled()

    import_libraries(quiet=gang.rank != 0)
    gang.choose_device()
    gang.join()
    runtime.stop_if_cancelled()
    job = Job(recipe, runtime, params, base_path, data, trust, config, start)
    trainer = mishap.train(job)
    if runtime.step < runtime.total_steps:
        raise Checkpointed(f"saved at step {runtime.step} of {runtime.total_steps} on request")
    output.write(job, trainer)
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
    for name in ("base", "dataset", "start", "reward_model"):
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
