"""What an eval found, as its files say it, and not as its program returned it.

lm-eval swallows errors of writing and ends well all the same. So a task counts only when a results file that is
newer than its start says so, whole: every sample there, every number finite, each mean the mean of its samples.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from .outcome import Ended

SCHEMA = 1
CUT = 1000  # characters of a prompt or an answer that are kept
_TOLERANCE = 1e-9


class NotEvaluated(Ended):
    """The harness has ended, and what it left does not hold."""

    reason = "eval_failed"


def newest(root: Path, since_ns: int) -> Path:
    """The results file that was written since then."""
    found = [p for p in root.rglob("results_*.json") if p.stat().st_mtime_ns >= since_ns]
    if not found:
        raise NotEvaluated(f"lm-eval ended and left no results file in {root} that is newer than its start")
    return max(found, key=lambda p: p.stat().st_mtime_ns)


def read(unit: str, results: Path, limited: bool) -> list[dict[str, Any]]:
    """The tasks of a results file, each verified against its samples; unit is what the suite asked for."""
    try:
        doc = json.loads(results.read_bytes())
    except (OSError, ValueError) as e:
        raise NotEvaluated(f"{results} cannot be read: {e}") from e
    if not isinstance(doc, dict) or unit not in {**doc.get("results", {}), **doc.get("groups", {})}:
        raise NotEvaluated(f"{results.name} has nothing of task {unit}")
    counted = doc.get("n-samples") or {}
    tasks = []
    for name, values in doc["results"].items():
        leaves = [name] if name in counted else _leaves(doc, name)
        n = {k: sum(counted[t][k] for t in leaves) for k in ("original", "effective")}
        if n["effective"] == 0 or (n["effective"] != n["original"] and not limited):
            raise NotEvaluated(f"task {name} evaluated {n['effective']} of {n['original']} samples, and no limit was asked for")
        scores = [_score(doc, name, key, v, values, n["effective"]) for key, v in values.items() if "," in key and "_stderr," not in key]
        if not scores and name in counted:
            raise NotEvaluated(f"task {name} has no score")
        if name in counted:
            _hold_against(name, scores, list(rows(results, name)), n["effective"])
        tasks.append(
            {
                "task": name,
                "version": str(doc.get("versions", {}).get(name, "")),
                "task_hash": doc.get("task_hashes", {}).get(name, ""),
                "n_shot": doc.get("n-shot", {}).get(name, 0),
                "group": name not in counted,
                "n_samples": n,
                "scores": scores,
            }
        )
    return tasks


def _leaves(doc: dict, name: str) -> list[str]:
    found = []
    for child in doc.get("group_subtasks", {}).get(name, []):
        found += [child] if child in doc.get("n-samples", {}) else _leaves(doc, child)
    return found


def _score(doc: dict, task: str, key: str, value: Any, values: dict, n: int) -> dict[str, Any]:
    metric, _, filter_name = key.partition(",")
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise NotEvaluated(f"task {task}: {metric} ({filter_name}) is {value!r}, which is no number")
    stderr = values.get(f"{metric}_stderr,{filter_name}")
    if isinstance(stderr, (int, float)) and not math.isfinite(stderr):
        raise NotEvaluated(f"task {task}: the standard error of {metric} ({filter_name}) is {stderr!r}")
    higher = doc.get("higher_is_better", {}).get(task, {}).get(metric)
    listed = doc.get("configs", {}).get(task, {}).get("metric_list") or []
    aggregation = next((m.get("aggregation") for m in listed if m.get("metric") == metric), None)
    return {
        "metric": metric,
        "filter": filter_name,
        "value": float(value),
        "stderr": float(stderr) if isinstance(stderr, (int, float)) else None,  # "N/A" where the harness has none
        "n": n,
        "higher_is_better": higher if isinstance(higher, bool) else None,
        "aggregation": aggregation if isinstance(aggregation, str) else "",
    }


def rows(results: Path, task: str) -> Iterator[dict[str, Any]]:
    """The samples that were written beside a results file."""
    path = results.with_name(f"samples_{task}_{results.stem.removeprefix('results_')}.jsonl")
    try:
        with open(path, encoding="utf-8") as f:
            yield from (json.loads(line) for line in f)
    except (OSError, ValueError) as e:
        raise NotEvaluated(f"task {task}: its samples cannot be read: {e}") from e


def _hold_against(task: str, scores: list[dict], samples: list[dict], n: int) -> None:
    by_filter: dict[str, list[dict]] = {}
    for s in samples:
        by_filter.setdefault(s["filter"], []).append(s)
    for score in scores:
        have = by_filter.get(score["filter"], [])
        if len(have) != n or len({s["doc_id"] for s in have}) != n:
            raise NotEvaluated(f"task {task}: {n} samples were evaluated and {len(have)} of filter {score['filter']} are in the file")
        values = [s[score["metric"]] for s in have if _number(s.get(score["metric"]))]
        if score["aggregation"] != "mean" or len(values) != n:
            continue  # perplexities and the like are no means of their samples
        mean = math.fsum(values) / n
        if not abs(mean - score["value"]) <= _TOLERANCE * max(1.0, abs(mean)):
            raise NotEvaluated(f"task {task}: {score['metric']} is {score['value']} and the mean of its samples {mean}")


def _number(value: Any) -> bool:
    return isinstance(value, (bool, int, float)) and math.isfinite(value)


def row(task: str, s: dict[str, Any], cluster: str = "") -> dict[str, Any]:
    """One line of output/samples.jsonl; cluster is the field of the document that groups samples."""
    first = next(iter(s.get("arguments", {}).values()), {})
    target, answer = s.get("target"), s.get("filtered_resps")
    if isinstance(answer, list) and len(answer) == 1:
        answer = answer[0]
    if choices := _choices(s):
        target, answer = _chosen(choices, target, answer)
    return {
        "task": task,
        "filter": s["filter"],
        "doc_id": s["doc_id"],
        "doc_hash": s["doc_hash"],
        "prompt_hash": s["prompt_hash"],
        "target_hash": s["target_hash"],
        "metrics": {m: float(s[m]) for m in s.get("metrics", []) if _number(s.get(m))},
        "target": _cut(target),
        "response": _cut(answer),
        "prompt": _cut(first.get("arg_0")),
    } | ({"cluster": str(s["doc"][cluster])} if cluster else {})


def _choices(s: dict[str, Any]) -> list[str]:
    """The answers among which the model was to choose: each was a request of its own. Empty where it wrote one itself."""
    choices = [a.get("arg_1") for a in s.get("arguments", {}).values()]
    return choices if len(choices) > 1 and all(isinstance(c, str) for c in choices) else []


def _chosen(choices: list[str], target: Any, answer: Any) -> tuple[Any, Any]:
    """What was wanted and what the model found most likely, in words and not as a number and a list of likelihoods."""
    try:
        likely = [float(a[0]) for a in answer]
        if len(likely) == len(choices) and not any(math.isnan(x) for x in likely):
            answer = choices[likely.index(max(likely))].strip()
        if 0 <= int(target) < len(choices):
            target = choices[int(target)].strip()
    except (TypeError, ValueError, LookupError):
        pass  # a form that is not known is shown as it is
    return target, answer


def _cut(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= CUT else text[: CUT - 1] + "…"


def write_rows(path: Path, lines: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """samples.jsonl; what scores.json says of it, so that one file vouches for the other."""
    digest, count, size = hashlib.sha256(), 0, 0
    with open(path, "wb") as f:
        for line in lines:
            data = json.dumps(line, ensure_ascii=False, sort_keys=True).encode() + b"\n"
            f.write(data)
            digest.update(data)
            count, size = count + 1, size + len(data)
    return {"count": count, "bytes": size, "sha256": digest.hexdigest()}


def missing(benchmarks: Iterable[Any], tasks: list[dict[str, Any]]) -> list[str]:
    """Benchmarks of the suite that have no score."""
    have = {(t["task"], s["metric"], s["filter"]) for t in tasks for s in t["scores"]}
    return [f"{b.task} {b.metric} ({b.filter})" for b in benchmarks if (b.task, b.metric, b.filter) not in have]
