"""A suite of benchmarks: one directory with suite.yaml, tasks of its own and their data.

A built-in one lies beside this module, a site's own where its configuration says. What runs is what was pinned
when the eval was submitted, or nothing: the digest covers every file (docs/evals.md).
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .outcome import BadInput

FILE = "suite.yaml"
BUILTIN = Path(__file__).resolve().parent / "suites"

_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")


@dataclass(frozen=True)
class Benchmark:
    """One number that counts: what it must reach, and by how much it may fall."""

    task: str
    metric: str
    filter: str
    num_fewshot: int | None
    cluster: str = ""  # field of the document that says which samples belong together


@dataclass(frozen=True)
class Suite:
    """What an eval runs."""

    name: str
    version: int
    root: Path
    sha256: str
    chat_template: str  # never, auto: where the tokenizer has one, always
    benchmarks: tuple[Benchmark, ...]
    own: dict[str, dict[str, Any]] = field(default_factory=dict)  # by task: its configuration, with paths of this node

    @property
    def tasks(self) -> list[str]:
        """Each once, in the order of the file."""
        return list(dict.fromkeys(b.task for b in self.benchmarks))

    @property
    def offline(self) -> bool:
        """Every task and its data is in the suite: no cache and no network is needed."""
        return all(t in self.own for t in self.tasks)

    def cluster(self, task: str) -> str:
        """The field that groups a task's samples; empty: they stand for themselves."""
        return next((b.cluster for b in self.benchmarks if b.task == task and b.cluster), "")

    def shots(self, task: str) -> int | None:
        """What the suite says of a task; None: what the task itself says."""
        return next((b.num_fewshot for b in self.benchmarks if b.task == task and b.num_fewshot is not None), None)


def files(root: Path) -> list[str]:
    """What belongs to a suite: everything below its directory but hidden files."""
    names = (p.relative_to(root) for p in root.rglob("*") if p.is_file())
    return sorted(n.as_posix() for n in names if not any(p.startswith(".") or p == "__pycache__" for p in n.parts))


def digest(root: Path) -> str:
    """The same number as forge's recipes.Suite: path in quotes, length, newline, content, file by file."""
    total = hashlib.sha256()
    for name in files(root):
        content = (root / name).read_bytes()
        total.update(f'"{name}" {len(content)}\n'.encode() + content)
    return total.hexdigest()


def read(config: dict) -> Suite:
    """The suite that config.json names, if it is the one that was pinned."""
    given = config.get("suite")
    if not isinstance(given, dict) or not _NAME.match(given.get("name") or ""):
        raise BadInput("the configuration names no suite: an eval runs one (forgectl suite list)")
    name = given["name"]
    root = Path(given["path"]) if given.get("path") else BUILTIN / name
    if not (root / FILE).is_file():
        where = f"{root} has no {FILE} on this node" if given.get("path") else f"this package has no suite {name}"
        raise BadInput(f"suite {name}: {where}")
    try:
        found = digest(root)
    except OSError as e:
        raise BadInput(f"suite {name}: {e}") from e
    if given.get("sha256") and found != given["sha256"]:
        raise BadInput(
            f"suite {name} in {root} is {found[:12]} and the eval was submitted for {given['sha256'][:12]}: "
            "it has changed since; submit the eval again"
        )
    return _parse(name, root, found)


def _parse(name: str, root: Path, sha: str) -> Suite:
    doc = _yaml(root / FILE)
    benchmarks = []
    for i, b in enumerate(doc.get("benchmarks") or []):
        if not isinstance(b, dict) or not b.get("task") or not b.get("metric"):
            raise BadInput(f"suite {name}: {FILE}: benchmarks[{i}] wants a task and a metric")
        of = (str(b["task"]), str(b["metric"]), str(b.get("filter") or "none"))
        benchmarks.append(Benchmark(*of, b.get("num_fewshot"), str(b.get("cluster") or "")))
    if not benchmarks:
        raise BadInput(f"suite {name}: {FILE} names no benchmarks")
    own = {}
    for file in (f for f in files(root) if f.endswith(".yaml") and f != FILE):
        task = _task(name, root, file)
        own[task["task"]] = task
    return Suite(name, int(doc.get("version") or 0), root, sha, doc.get("chat_template") or "never", tuple(benchmarks), own)


def _task(name: str, root: Path, file: str) -> dict[str, Any]:
    """A task of the suite's own, its data made absolute."""
    doc = _yaml(root / file)

    def fault(key: str, text: str) -> BadInput:
        return BadInput(f"suite {name}: {file}: {key}: {text}")

    if not isinstance(doc.get("task"), str):
        raise fault("task", "is missing")
    if doc.get("dataset_path") != "json":
        raise fault("dataset_path", f"is {doc.get('dataset_path')!r}: a task of a suite's own reads json files of the suite")
    data = (doc.get("dataset_kwargs") or {}).get("data_files")
    if not isinstance(data, dict) or not data:
        raise fault("dataset_kwargs.data_files", "wants a file for each split")
    for split, path in data.items():
        here = (root / str(path)).resolve()
        if not here.is_relative_to(root.resolve()) or not here.is_file():
            raise fault(f"dataset_kwargs.data_files.{split}", f"there is no {path} in the suite")
        data[split] = str(here)
    if doc.get("test_split") not in data:
        raise fault("test_split", f"is {doc.get('test_split')!r}: the files are of {', '.join(data)}")
    return doc


def _yaml(path: Path) -> dict[str, Any]:
    import yaml

    try:
        doc = yaml.safe_load(path.read_text())
    except OSError as e:
        raise BadInput(f"{path} cannot be read: {e.strerror}") from e
    except (yaml.YAMLError, UnicodeDecodeError) as e:
        raise BadInput(f"{path} is not YAML that a suite may have (no code): {e}") from e
    if not isinstance(doc, dict):
        raise BadInput(f"{path}: want a mapping")
    return doc


def check_words(suite: Suite) -> None:
    """Name a filter or metric that the harness does not know, before it looks for it on the network."""
    import lm_eval.api.metrics
    import lm_eval.filters  # noqa: F401  the two fill the registries
    from lm_eval.api.registry import AGGREGATION_REGISTRY, FILTER_REGISTRY, METRIC_REGISTRY

    for task, doc in suite.own.items():
        for i, pipeline in enumerate(doc.get("filter_list") or []):
            for j, step in enumerate(pipeline.get("filter") or []):
                if step.get("function") not in FILTER_REGISTRY:
                    raise BadInput(
                        f"suite {suite.name}: task {task}: filter_list[{i}].filter[{j}].function: there is no filter {step.get('function')!r}"
                    )
        for i, metric in enumerate(doc.get("metric_list") or []):
            for key, known in (("metric", METRIC_REGISTRY), ("aggregation", AGGREGATION_REGISTRY)):
                if metric.get(key) is not None and metric[key] not in known:
                    raise BadInput(f"suite {suite.name}: task {task}: metric_list[{i}].{key}: there is no {key} {metric[key]!r}")
    for b in suite.benchmarks:
        if (doc := suite.own.get(b.task)) is None:
            continue
        metrics = [m.get("metric") for m in doc.get("metric_list") or []]
        filters = [f.get("name") for f in doc.get("filter_list") or []] or ["none"]
        if b.metric not in metrics:
            raise BadInput(f"suite {suite.name}: benchmark {b.task}: metric: the task has {', '.join(metrics)}, and no {b.metric}")
        if b.filter not in filters:
            raise BadInput(f"suite {suite.name}: benchmark {b.task}: filter: the task has {', '.join(filters)}, and no {b.filter}")
