"""The model card: README.md of the output, in the form that the Hugging Face Hub reads.

Everything in it is from config.json, from the metrics and from this process. What is not known is said to be so.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .rundir import RunDir, write_durably

UNKNOWN = "not known"
_KINDS = {"lora": "A LoRA adapter", "qlora": "A LoRA adapter, trained over a base in 4 bits", "none": "A whole model"}
_LICENSES = {"apache-2.0", "mit", "bsd-3-clause", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc0-1.0", "gpl-3.0"}
_DEVICES = {"cpu": "CPU"}


def write(path: Path, job, adapted: bool, facts: Mapping[str, Any]) -> None:
    """Write the card of what a job has made."""
    write_durably(path, text(job, adapted, facts).encode())


def text(job, adapted: bool, facts: Mapping[str, Any]) -> str:
    """The card."""
    config, scores = job.config, job.recipe.name == "reward"
    title = f"{_noun(config, 'base')}, {job.recipe.name}, run {config.get('run_number', UNKNOWN)}"
    parts = [
        _front(job, adapted),
        f"# {title}\n",
        _what(job, adapted),
        "## Where it comes from\n",
        _lineage(config),
        "## How it was made\n",
        _recipe(job, facts),
        "## Metrics\n",
        _metrics(job.runtime.run),
        "## Environment\n",
        _environment(job, facts),
        "## How to load it\n",
        _load(adapted, scores),
    ]
    return "\n".join(parts)


def _front(job, adapted: bool) -> str:
    lines = [f"library_name: {'peft' if adapted else 'transformers'}"]
    base, data = job.config.get("base") or {}, job.config.get("dataset") or {}
    if base.get("name"):
        lines.append(f"base_model: {json.dumps(base['name'])}")
    lines += _license(job.config.get("base_license") or "")
    if data.get("name"):
        lines += ["datasets:", f"- {json.dumps(data['name'])}"]
    tags = ["forge-ml", job.recipe.name, *(["lora"] if adapted else [])]
    return "\n".join(["---", *lines, "tags:", *(f"- {json.dumps(t)}" for t in tags), "---", ""])


def _license(name: str) -> list[str]:
    """The Hub knows licences by short names of its own; others it takes by their name."""
    if name in ("", "NOASSERTION"):
        return []
    if name.lower() in _LICENSES:
        return [f"license: {name.lower()}"]
    return ["license: other", f"license_name: {json.dumps(name)}"]


def _noun(config: Mapping[str, Any], of: str) -> str:
    return _one_line((config.get(of) or {}).get("name") or UNKNOWN)


def _one_line(value: Any) -> str:
    return " ".join(str(value).split()).replace("|", "\\|")


def _what(job, adapted: bool) -> str:
    peft = job.params.get("peft", "none")
    kind = _KINDS.get(peft, UNKNOWN) if adapted or peft == "none" else "An adapter, merged into its base: a whole model"
    over = f" over {_noun(job.config, 'base')}" if adapted else f" from {_noun(job.config, 'base')}"
    begins = f" It begins from the adapter {_noun(job.config, 'start')}, which is part of it." if job.config.get("start") else ""
    merged = " The same merged into its base is in merged/." if adapted and job.params.get("output.merge") == "both" else ""
    return f"{kind}{over}, by the recipe {job.recipe.name}.{begins}{merged}\n"


def _lineage(config: Mapping[str, Any]) -> str:
    rows = []
    for what, key in (
        ("dataset", "dataset"),
        ("base model", "base"),
        ("start adapter", "start"),
        ("reward model", "reward_model"),
    ):
        given = config.get(key)
        if given or key in ("dataset", "base"):
            given = given or {}
            license_name = config.get(f"{key}_license") or UNKNOWN if key in ("dataset", "base") else ""
            rows.append((what, given.get("name") or UNKNOWN, given.get("sha256") or UNKNOWN, license_name))
    return _table(("", "name", "sha256", "licence"), rows)


def _recipe(job, facts: Mapping[str, Any]) -> str:
    defaults = {p.name: p.default for p in job.recipe.params}
    rows = [(k, v, defaults.get(k, UNKNOWN)) for k, v in sorted(job.params.items()) if v != defaults.get(k)]
    lead = f"Recipe {job.recipe.name}, {facts['steps']} steps"
    if not rows:
        return lead + "; every parameter at its default.\n"
    return f"{lead}. Parameters that are not at their defaults:\n\n" + _table(("parameter", "value", "default"), rows)


def _metrics(run: RunDir) -> str:
    last, best = last_and_best(run)
    if not last:
        return f"{UNKNOWN}: no metrics were kept.\n"
    rows = [(name, f"{value:.6g}") for name, value in sorted(last["values"].items())]
    words = f"Of step {last['step']}, the last one reported."
    if best:
        words += f" The lowest loss was {best[1]:.6g}, at step {best[0]}."
    return f"{words}\n\n" + _table(("metric", "value"), rows)


def last_and_best(run: RunDir) -> tuple[dict | None, tuple[int, float] | None]:
    """The last line of metrics, and step and loss where that was lowest, over all attempts of the run.

    Steps that a later attempt did again are that attempt's.
    """
    last, best, until = None, None, float("inf")
    attempts = run.config.parent.parent
    names = sorted((p.name for p in attempts.iterdir() if p.name <= run.config.parent.name), reverse=True)
    for name in names:
        own = run.metrics if name == run.config.parent.name else attempts / name / run.metrics.name
        first = None
        for line in _lines(own):
            step, values = line["step"], line["values"]
            if step >= until:
                break
            first = step if first is None else first
            last = line if last is None or step > last["step"] else last
            loss = values.get("loss")
            if loss is not None and (best is None or loss < best[1]):
                best = (step, loss)
        until = min(until, first) if first is not None else until
    return last, best


def _lines(path: Path) -> Iterable[dict]:
    try:
        with open(path, encoding="utf-8", errors="replace") as f:
            for text_line in f:
                try:
                    line = json.loads(text_line)
                    if isinstance(line["step"], int) and isinstance(line["values"], dict):
                        yield line
                except (ValueError, KeyError, TypeError):  # one that a crash has torn
                    continue
    except OSError:
        return


def _environment(job, facts: Mapping[str, Any]) -> str:
    gang, code = job.runtime.gang, facts["code"]
    rows = [("ranks", str(gang.world)), ("device", _device(gang.device))]
    rows.append(("shared by", job.params.get("train.parallel", UNKNOWN)))
    rows += [(name, version) for name, version in code.items() if name != "sha256"]
    rows.append(("code of forge_train", f"sha256 {code.get('sha256', UNKNOWN)}"))
    return _table(("", ""), rows)


def _device(kind: str) -> str:
    if kind != "cuda":
        return _DEVICES.get(kind, UNKNOWN)
    import torch

    return torch.cuda.get_device_name()


def _load(adapted: bool, scores: bool) -> str:
    task = "SequenceClassification" if scores else "CausalLM"
    library, kind = ("peft", f"AutoPeftModelFor{task}") if adapted else ("transformers", f"AutoModelFor{task}")
    more = ", num_labels=1" if scores and adapted else ""
    note = "It looks for its base where adapter_config.json says, in base_model_name_or_path.\n" if adapted else ""
    return (
        f"```python\nfrom {library} import {kind}\nfrom transformers import AutoTokenizer\n"
        f'model, tokenizer = {kind}.from_pretrained("PATH"{more}), AutoTokenizer.from_pretrained("PATH")\n```\n\n{note}'
    )


def _table(head: tuple[str, ...], rows: Iterable[tuple]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    lines += ["| " + " | ".join(_one_line(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"
