"""An eval: a suite of lm-evaluation-harness over one model version, under the rank contract.

python -m forge_train.evaluate      one process, started by the shim

Tasks are run one after the other; each that is done is verified (scores.py) and saved, as a checkpoint. So a stop loses
the task under way at most, and the next attempt skips what an earlier one has done. Steps are samples.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from . import __version__, checkpoint, environment, keep, scores, subject, suite
from .outcome import BadInput, Checkpointed, NodeEnvironment
from .params import Param, read_params
from .rundir import sync_tree, timestamp, write_durably, write_json
from .runtime import Runtime
from .start import Recipe, import_libraries, leave

PARAMS = (
    Param("eval.batch_size", int, 8, 1, 4096),
    Param("eval.limit", int, 0, 0, 100_000_000),
    Param("eval.seed", int, 1234, 0, 4294967295),
    Param("eval.dtype", str, "auto", choices=("auto", "fp32", "bf16", "fp16")),
    Param("eval.max_length", int, 0, 0, 1_048_576),
)

_DTYPES = {"auto": "auto", "fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
_LOOK_SECONDS = 0.25
_IDENTITY = "eval.json"


def check(params: dict[str, Any]) -> None:
    """Nothing here contradicts anything else."""


def harness_version() -> str:
    """lm_eval's version; NodeEnvironment where there is none that does."""
    low, high = environment.EVALS["lm-eval"]
    try:
        version = metadata.version("lm_eval")
    except metadata.PackageNotFoundError:
        version = ""
    if not version or not environment.release(low) <= environment.release(version) < environment.release(high):
        have = f"lm_eval {version}" if version else "lm_eval is missing"
        raise NodeEnvironment(
            f"the Python environment {sys.prefix} does not do for evals: {have} (supported: >={low},<{high}). "
            "contrib/python-env/install makes one that does"
        )
    return version


def work(recipe: Recipe, runtime: Runtime) -> None:
    """The whole of it; ends by returning (done) or by raising how it ended."""
    run, gang = runtime.run, runtime.gang
    runtime.code = {"forge_train": __version__, "sha256": environment.code_digest()}
    config = run.read_config()
    params = read_params(recipe.params, config.get("params") or {})
    if gang.world != 1:
        raise BadInput(f"an eval is one process on one GPU, and this gang has {gang.world}: submit it with --gpus 1")
    runtime.code |= environment.check()
    runtime.code["lm_eval"] = harness_version()
    run.check_fence()
    model = subject.read(config)
    wanted = suite.read(config)
    runtime.stop_if_cancelled()

    work_dir = run.config.parent / "eval"
    _quiet(wanted, work_dir)
    import_libraries(quiet=True)
    try:
        import lm_eval  # noqa: F401
    except (ImportError, OSError) as e:
        raise NodeEnvironment(f"the Python environment {sys.prefix} does not import lm_eval: {e}") from e
    gang.choose_device()
    gang.join()
    suite.check_words(wanted)
    shutil.rmtree(work_dir, ignore_errors=True)
    work_dir.mkdir(mode=0o750)
    try:
        Eval(runtime, params, model, wanted, work_dir).run()
    finally:
        shutil.rmtree(work_dir, ignore_errors=True)


def _quiet(wanted: suite.Suite, work_dir: Path) -> None:
    # Set, and not only proposed: what is fetched at run time is not what was pinned, and a node without network waits for minutes.
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_EVALUATE_OFFLINE", "TRANSFORMERS_OFFLINE"):
        os.environ[name] = "1"
    os.environ["TQDM_DISABLE"] = "1"
    if wanted.offline:  # nothing of it is worth keeping in a home directory
        os.environ["HF_DATASETS_CACHE"] = str(work_dir / "datasets")
    logging.getLogger("lm_eval").setLevel(logging.ERROR)


class Eval:
    """One suite over one model."""

    def __init__(self, runtime: Runtime, params: dict[str, Any], model: subject.Subject, wanted: suite.Suite, work_dir: Path):
        self.runtime, self.params, self.model, self.suite, self.dir = runtime, params, model, wanted, work_dir
        self.done: dict[str, list[dict[str, Any]]] = {}  # by the suite's word for a task: what it found
        self.limit = params["eval.limit"] or None
        self.began = timestamp()
        self._lm: Any = None
        self._template: str | None = None

    def run(self) -> None:
        """Load, run what is not done yet, write the output."""
        runtime, began = self.runtime, time.monotonic()
        units = self._units()
        sizes = {unit: sum(self._size(t) for t in loaded["tasks"].values()) for unit, loaded in units.items()}
        runtime.total_steps = sum(sizes.values())
        self._take_over(sizes)
        runtime.before_first_step()
        if set(units) - set(self.done):
            self._load()
        for unit, loaded in units.items():
            if unit in self.done:
                continue
            self._one(unit, loaded, sizes[unit])
            runtime.step += sizes[unit]
            self._save(unit)
        self._write(time.monotonic() - began)

    def _units(self) -> dict[str, Any]:
        """The tasks of the suite, loaded with their data."""
        from lm_eval.tasks import TaskManager

        manager = TaskManager(include_defaults=not self.suite.offline)
        units = {}
        for name in self.suite.tasks:
            if name not in self.suite.own and name not in manager.all_tasks:
                raise BadInput(f"suite {self.suite.name}: {suite.FILE}: lm_eval {self.runtime.code['lm_eval']} has no task {name}")
            try:
                units[name] = manager.load([self.suite.own.get(name, name)])
            except Exception as e:
                raise self._not_loaded(name, e) from e
            self.runtime.beat()
            self._stop_if_asked(f"loading task {name}")
            for task in units[name]["tasks"].values():
                shots = self.suite.shots(name)
                if task.get_config("num_fewshot") is None or shots is not None:
                    task.set_config(key="num_fewshot", value=shots or 0)
                task.set_fewshot_seed(seed=self.params["eval.seed"])
                self._check_cluster(name, task.eval_docs)
        return units

    def _check_cluster(self, name: str, docs: Any) -> None:
        field = self.suite.cluster(name)
        lacks = next((i for i, d in enumerate(docs) if d.get(field) in (None, "")), None) if field else None
        if lacks is not None:
            raise BadInput(f"suite {self.suite.name}: {suite.FILE}: cluster: document {lacks} of task {name} has no field {field}")

    def _not_loaded(self, name: str, e: Exception) -> Exception:
        text = f"{type(e).__name__}: {e}".splitlines()[0][:300]
        if name in self.suite.own:
            return BadInput(f"suite {self.suite.name}: task {name} cannot be loaded: {text}")
        return NodeEnvironment(
            f"the data of task {name} is not in this node's cache ({text}); an eval fetches nothing: "
            f"forgectl suite fetch {self.suite.name}"
        )

    def _size(self, task: Any) -> int:
        n = len(task.eval_docs)
        return min(n, self.limit) if self.limit else n

    def _load(self) -> None:
        from lm_eval.models.huggingface import HFLM

        more = {"max_length": self.params["eval.max_length"]} if self.params["eval.max_length"] else {}
        if self.model.adapter:
            more["peft"] = str(self.model.adapter)
        try:
            self._lm = HFLM(
                pretrained=str(self.model.weights),
                tokenizer=str(self.model.tokenizer),
                dtype=_DTYPES[self.params["eval.dtype"]],
                device=self.runtime.gang.device,
                batch_size=self.params["eval.batch_size"],
                trust_remote_code=self.model.trust,
                **more,
            )
        except (ValueError, OSError, KeyError, RuntimeError) as e:
            if isinstance(e, OSError) and e.errno is not None or "out of memory" in str(e).lower():
                raise
            raise BadInput(f"model {self.model.name} cannot be loaded: {e}") from e
        self.runtime.beat()
        has = bool(self._lm.tokenizer.chat_template)
        if self.suite.chat_template == "always" and not has:
            raise BadInput(f"suite {self.suite.name} is of chat models, and the tokenizer of {self.model.name} has no chat template")
        if has and self.suite.chat_template != "never":
            self._template = self._lm.chat_template(True)

    def _one(self, unit: str, loaded: Any, size: int) -> None:
        """Run one task; what counts is what it leaves in files."""
        from lm_eval.evaluator import evaluate
        from lm_eval.loggers import EvaluationTracker
        from lm_eval.loggers.utils import add_tokenizer_info
        from lm_eval.utils import set_torch_seed

        self._lm.set_cache_hook(_Progress(self, unit, loaded["tasks"].values(), size))
        _seed(self.params["eval.seed"], set_torch_seed)
        where = self.dir / unit
        tracker = EvaluationTracker(output_path=str(where))
        tracker.general_config_tracker.log_experiment_args("hf", {"pretrained": "model"}, None, self._template, True)
        since = time.time_ns()
        results = evaluate(
            lm=self._lm, task_dict=loaded, limit=self.limit, log_samples=True, apply_chat_template=self._template is not None, fewshot_as_multiturn=True
        )
        if results is not None:
            samples = results.pop("samples", {})
            results["config"] = {"model": "hf", "model_args": {"pretrained": "model"}, **self._lm.get_model_info()}
            results["config"] |= {"batch_size": str(self.params["eval.batch_size"]), "limit": self.limit, "device": self.runtime.gang.device}
            results["config"] |= {f"{n}_seed": self.params["eval.seed"] for n in ("random", "numpy", "torch", "fewshot")}
            results |= {"date": since / 1e9, "lm_eval_version": self.runtime.code["lm_eval"], "transformers_version": self.runtime.code["transformers"]}
            add_tokenizer_info(results, self._lm)
            tracker.save_results_aggregated(results=results, samples=samples)
            for name, rows in samples.items():
                tracker.save_results_samples(task_name=name, samples=rows)
        self._read(unit, where, since)

    def _read(self, unit: str, where: Path, since: int) -> None:
        file = scores.newest(where, since)
        self.done[unit] = scores.read(unit, file, self.limit is not None)
        if lacking := scores.missing((b for b in self.suite.benchmarks if b.task == unit), self.done[unit]):
            raise scores.NotEvaluated(f"suite {self.suite.name}: the harness gave no {', '.join(lacking)}")

    def _identity(self) -> dict[str, Any]:
        """What two attempts must share for one to take over what the other did."""
        return {
            "suite": self.suite.sha256,
            "model": self.model.sha256,
            "base": self.model.base_sha256,
            "params": self.params,
            "lm_eval": self.runtime.code["lm_eval"],
            "device": self.runtime.gang.device,
        }

    def _save(self, unit: str) -> None:
        runtime = self.runtime
        began = time.monotonic()
        root = checkpoint.directory(runtime.run, runtime.step)
        root.mkdir(parents=True, exist_ok=True, mode=0o750)
        shutil.copytree(self.dir, root / "lm_eval", dirs_exist_ok=True, ignore=shutil.ignore_patterns("datasets"))
        write_json(root / _IDENTITY, {"identity": self._identity(), "done": list(self.done), "began": self.began})
        more = {"recipe": "eval", "suite_sha256": self.suite.sha256}
        checkpoint.commit(runtime.run, runtime.gang, runtime.step, began, runtime.asked, more)
        runtime.saved_step = runtime.step
        keep.retain(runtime.run, keep.Rules())
        runtime.report(runtime.step, {"tasks_done": len(self.done)})
        if runtime.step < runtime.total_steps and runtime.boundary():
            raise Checkpointed(f"asked to stop; {len(self.done)} of {len(self.suite.tasks)} tasks are done and saved")

    def _take_over(self, sizes: dict[str, int]) -> None:
        """What an earlier attempt has finished, if its record holds."""
        root = self.runtime.run.resume_from
        if root is None:
            return
        try:
            record = json.loads((root / _IDENTITY).read_bytes())
            if not keep.whole(root):
                raise ValueError("its files are not what its manifest says")
            if record["identity"] != self._identity():
                raise ValueError("it is of another model, suite, environment or parameters")
            for unit in record["done"]:
                shutil.copytree(root / "lm_eval" / unit, self.dir / unit)
                self._read(unit, self.dir / unit, 0)
        except (OSError, ValueError, KeyError, TypeError, scores.NotEvaluated) as e:
            self.done = {}
            for unit in sizes:
                shutil.rmtree(self.dir / unit, ignore_errors=True)
            self.runtime.say(f"what an earlier attempt has done is not taken over: {e}; all tasks are run")
            return
        self.began = record["began"]
        self.runtime.step = sum(sizes[unit] for unit in self.done)
        self.runtime.saved_step = self.runtime.step
        self.runtime.say(f"{len(self.done)} of {len(sizes)} tasks are done already: {', '.join(self.done)}")

    def _stop_if_asked(self, during: str) -> None:
        if self.runtime.boundary():
            saved = f"{len(self.done)} of {len(self.suite.tasks)} tasks are done and saved" if self.done else "no task was done yet"
            raise Checkpointed(f"asked to stop during {during}; {saved}")

    def _write(self, seconds: float) -> None:
        run, runtime = self.runtime.run, self.runtime
        run.check_fence()
        run.output.mkdir(parents=True, exist_ok=True, mode=0o750)
        tasks = [t for unit in self.suite.tasks for t in self.done[unit]]
        files = {unit: scores.newest(self.dir / unit, 0) for unit in self.suite.tasks}
        lines = (
            scores.row(t["task"], s, self.suite.cluster(u))
            for u, f in files.items()
            for t in self.done[u]
            if not t["group"]
            for s in scores.rows(f, t["task"])
        )
        vouched = scores.write_rows(run.output / "samples.jsonl", lines)
        harness = json.loads(next(iter(files.values())).read_bytes())
        for unit in files:
            shutil.copytree(self.dir / unit, run.output / "lm_eval" / unit, dirs_exist_ok=True)
        found = {
            "schema": scores.SCHEMA,
            "run_id": run.run_id,
            "attempt": run.attempt,
            "suite": {"name": self.suite.name, "sha256": self.suite.sha256, "version": self.suite.version},
            "harness": {n: v for n, v in runtime.code.items() if n in ("lm_eval", "torch", "transformers", "datasets", "peft", "python")},
            "model": {"name": self.model.name, "sha256": self.model.sha256, "base_sha256": self.model.base_sha256},
            "dtype": str(harness["config"].get("model_dtype", "")).removeprefix("torch."),
            "device": runtime.gang.device,
            "batch_size": self.params["eval.batch_size"],
            "seed": self.params["eval.seed"],
            "max_length": harness.get("max_length") or 0,
            "limit": self.params["eval.limit"],
            "chat_template_sha": harness.get("chat_template_sha") or "",
            "tasks": tasks,
            "samples": vouched,
            "began_at": self.began,
            "ended_at": timestamp(),
            "seconds": round(seconds, 3),
        }
        write_durably(run.output / "scores.json", json.dumps(found, ensure_ascii=False, allow_nan=False, indent=1).encode() + b"\n")
        sync_tree(run.output)
        run.check_fence()


def _seed(value: int, torch_seed: Any) -> None:
    import random

    import numpy

    random.seed(value)
    numpy.random.seed(value)
    torch_seed(value)


class _Progress:
    """lm-eval tells this of every request that is answered."""

    def __init__(self, of: Eval, unit: str, tasks: Any, size: int):
        self._eval, self._unit, self._tasks, self._size = of, unit, tasks, size
        self._base = of.runtime.step
        self._expected = self._seen = 0
        self._looked = self._since = time.monotonic()

    def add_partial(self, kind: str, request: Any, answer: Any) -> None:
        self._seen += 1
        now = time.monotonic()
        if now - self._looked < _LOOK_SECONDS:
            return
        self._looked = now
        runtime = self._eval.runtime
        # only now: the requests are made after the task is loaded
        self._expected = self._expected or sum(i.repeats for t in self._tasks for i in t.instances)
        share = min(1.0, self._seen / max(1, self._expected))
        runtime.report(self._base + int(share * self._size), {"requests_per_second": self._seen / (now - self._since)})
        self._eval._stop_if_asked(f"task {self._unit}")


RECIPE = Recipe("eval", PARAMS, (), check, build=None)

if __name__ == "__main__":
    leave(RECIPE, work)
