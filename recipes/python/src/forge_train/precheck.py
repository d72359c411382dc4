"""A look at the rows by the real tokenizer, before a GPU is asked for.

    python -m forge_train.precheck CONFIG        the path of a config.json, or - for standard input

forged starts it when a run is submitted. It loads the tokenizer and nothing else, writes a sample of the rows as the
trainer would, and prints one JSON object: what would end the run (faults, each with the field that it is about and
what to do), and what one would rather know before (warnings). It runs no code of the model's, and takes little: its
own limits come first.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from . import base, formats, prompts, sample, template
from .outcome import BadInput

MOST_ROWS = 256
SECONDS = 20  # of looking at rows; what was seen by then counts
MEMORY = 4 << 30
PROCESSOR = 90
WARN_SHARE = 0.01  # of rows that are too long

# What becomes of a row that is longer than train.max_length.
_FATE = {"dpo": "their answers are cut there", "reward": "they are left out"}
_CUT = "they are cut there"

_ANSWERS = {"messages": ("messages",), "text": ("text",), "prompt_completion": ("completion",)}
_PAIR = ("chosen", "rejected")


@dataclass
class Report:
    """What was seen."""

    rows: int = 0
    max_length: int = 0
    over_long: int = 0
    longest: int = 0
    longest_at: str = ""
    faults: list[dict[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def fault(self, about: str, message: str, hint: str) -> None:
        """Note what would end the run."""
        self.faults.append({"field": about, "message": message, "hint": hint})


def limit() -> None:
    """Take no more than a look is worth, whatever a tokenizer or a template does."""
    os.nice(19)
    for kind, most in (
        (resource.RLIMIT_DATA, MEMORY),
        (resource.RLIMIT_CPU, PROCESSOR),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 1 << 20),
    ):
        _, hard = resource.getrlimit(kind)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (most, most))


def look(config: dict) -> Report:
    """Everything; BadInput says that the inputs are not as registered."""
    params = config.get("params") or {}
    wanted = params.get("train.chat_template", template.AUTO)
    base_path, data_path = Path(config["base"]["path"]), Path(config["dataset"]["path"])
    kind = config.get("dataset_kind") or "text"
    report = Report(max_length=int(params.get("train.max_length", 0)))
    assistant_only = bool(params.get("train.assistant_only_loss"))

    files = formats.files_of(data_path, config.get("dataset_files"))
    sampled = sample.rows(files, MOST_ROWS, formats.Layout.of(config))
    first = next(sampled, None)
    if first is None:
        raise BadInput(f"dataset {data_path} has no row that can be read")
    messages = any(isinstance(first[1].get(c), list) for c in _columns(kind))
    sampled = chain([first], sampled)
    base.inspect(base_path, messages, wanted)
    tokenizer = _tokenizer(base_path)
    own = tokenizer.chat_template
    template.apply(tokenizer, wanted)
    if messages and not own and tokenizer.chat_template:
        report.warnings.append("the base model has no chat template of its own; messages are written as ChatML")
    if tokenizer.eos_token is None and tokenizer.pad_token is None:
        report.fault(
            "base",
            "the tokenizer has neither a padding nor an end token",
            "name one in its tokenizer_config.json (eos_token) and import the model again",
        )
    elif tokenizer.eos_token is None:
        report.warnings.append("the tokenizer has no end token: what is trained does not learn where an answer ends")
    if assistant_only and messages and not _marked(tokenizer.chat_template):
        report.fault(
            "params.train.assistant_only_loss",
            "it is on, and the chat template of the base model does not mark the assistant's turns "
            "with {% generation %}",
            "turn it off, or use a template that does: --set train.chat_template=chatml",
        )
    if not report.faults and "generation.max_new_tokens" in params:
        _measure_prompts(report, tokenizer, sampled, params, base_path)
    elif not report.faults:
        _measure(report, tokenizer, kind, sampled, str(config.get("recipe", "")), base_path)
    return report


def _tokenizer(path: Path):
    """The tokenizer as the trainer has it. The class for tokenizer.json needs no torch, and so a third of the time."""
    from transformers import PreTrainedTokenizerFast
    from transformers.utils import logging

    logging.set_verbosity_error()
    try:
        if (path / "tokenizer.json").is_file():
            return PreTrainedTokenizerFast.from_pretrained(path, local_files_only=True)
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except Exception as e:
        raise BadInput(f"base model {path}: the tokenizer cannot be loaded: {_line(e)}") from e


def _marked(text: Any) -> bool:
    """Say whether a template marks the assistant's turns, or is one of those that TRL has a marked form of."""
    import re
    from importlib.util import find_spec

    if not isinstance(text, str) or re.search(r"\{%-?\s*generation\s*-?%\}", text):
        return True
    trl = find_spec("trl")  # found, not imported: that takes torch
    if trl is None or not trl.origin:
        return True
    known = (Path(trl.origin).parent / "chat_templates").glob("*.jinja")
    return any(text == k.read_text(encoding="utf-8") for k in known)


def _measure(report: Report, tokenizer, kind: str, sampled: Iterator, recipe: str, base_path: Path) -> None:
    """Write and count the rows of the sample."""
    from jinja2 import TemplateError

    deadline = time.monotonic() + SECONDS
    lengths, refused, full = [], [], 0
    for place, row in sampled:
        if time.monotonic() > deadline:
            break
        try:
            prompt, length = _lengths(tokenizer, kind, row)
        except (TemplateError, ValueError, TypeError, KeyError) as e:
            refused.append((place, _line(e)))
            continue
        lengths.append(length)
        full += bool(prompt and report.max_length and prompt >= report.max_length)
        if length > report.longest:
            report.longest, report.longest_at = length, place
    report.rows = len(lengths) + len(refused)
    report.longest_at = str(report.longest_at)
    if refused:
        place, why = refused[0]
        report.fault(
            "dataset",
            f"the chat template of the base model refuses {_of(len(refused), report.rows)}, "
            f"the first at {place}: {why}",
            "correct the rows and register them as a new version, or choose another template: "
            "--set train.chat_template=chatml",
        )
        return
    if lengths and full == len(lengths):
        report.fault(
            "params.train.max_length",
            f"no row has anything to learn from: in all {full} that were looked at the prompt alone has "
            f"{report.max_length} tokens or more",
            f"--set train.max_length={_rounded(report.longest)}",
        )
        return
    _judge_lengths(report, lengths, recipe, base_path)


def _measure_prompts(report: Report, tokenizer, sampled: Iterator, params: dict, base_path: Path) -> None:
    """Prompts that are answered leave room for the answer: the first that does not would end the run."""
    from jinja2 import TemplateError

    deadline = time.monotonic() + SECONDS
    most, why = prompts.longest(params, prompts.context(base_path))
    too_long = []
    for place, row in sampled:
        if time.monotonic() > deadline:
            break
        try:
            length = len(prompts.ids(tokenizer, _asked(row["prompt"])))
        except (TemplateError, ValueError, TypeError, KeyError) as e:
            report.fault(
                "dataset",
                f"the chat template of the base model refuses a prompt, at {place}: {_line(e)}",
                "correct the rows and register them as a new version, or choose another template: "
                "--set train.chat_template=chatml",
            )
            return
        report.rows += 1
        if length > most:
            too_long.append((str(place), length))
        if length > report.longest:
            report.longest, report.longest_at = length, str(place)
    report.over_long = len(too_long)
    if too_long:
        place, length = too_long[0]
        report.fault(
            "params.generation.max_new_tokens" if report.longest < most + params["generation.max_new_tokens"] else "dataset",
            f"{_of(len(too_long), report.rows)} have a prompt of more than {most} tokens ({why}), the first at {place} with {length}, "
            f"the longest {report.longest} ({report.longest_at})",
            "leave them out, or lower generation.max_new_tokens (and raise train.max_length as far as the model reads)",
        )


def _asked(prompt: Any) -> Any:
    return _plain(prompt) if isinstance(prompt, list) else prompt


def _judge_lengths(report: Report, lengths: list[int], recipe: str, base_path: Path) -> None:
    limit_, longest = report.max_length, report.longest
    report.over_long = sum(n > limit_ for n in lengths) if limit_ else 0
    if report.over_long and report.over_long / len(lengths) >= WARN_SHARE:
        report.warnings.append(
            f"{_of(report.over_long, len(lengths))} are longer than train.max_length = {limit_} tokens, the longest "
            f"with {longest} ({report.longest_at}), half of all with {int(statistics.median(lengths))} or less: "
            f"{_FATE.get(recipe, _CUT)}; --set train.max_length={_rounded(longest)} takes them whole"
        )
    context = prompts.context(base_path)
    if context and min(longest, limit_ or longest) > context:
        report.warnings.append(
            f"rows of up to {min(longest, limit_ or longest)} tokens go beyond what the base model was made for "
            f"(max_position_embeddings = {context})"
        )


def _lengths(tokenizer, kind: str, row: dict) -> tuple[int, int]:
    """Tokens of a row's prompt (0: it has none) and of its longest whole."""
    columns = _columns(kind)
    prompt = row.get("prompt") if kind != "prompt" else None
    if any(isinstance(row[c], list) for c in columns):
        before = _plain(prompt or [])
        asked = len(_written(tokenizer, before, True)) if before else 0
        return asked, max(len(_written(tokenizer, before + _plain(row[c]), False)) for c in columns)
    asked = len(tokenizer(prompt)["input_ids"]) if prompt else 0
    end = tokenizer.eos_token or ""
    return asked, max(len(tokenizer((prompt or "") + row[c] + end)["input_ids"]) for c in columns)


def _columns(kind: str) -> tuple[str, ...]:
    """The columns that are learnt."""
    return _PAIR if kind == "preference" else _ANSWERS.get(kind, (kind,))


def _plain(messages: list[dict]) -> list[dict]:
    return [{"role": m["role"], "content": m["content"]} for m in messages]


def _written(tokenizer, messages: list[dict], ask: bool) -> list[int]:
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=ask)
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def _of(some: int, all_: int) -> str:
    return f"{some} of {all_} rows that were looked at"


def _rounded(tokens: int) -> int:
    return -(-tokens // 64) * 64


def _line(e: BaseException) -> str:
    text = " ".join(str(e).split())
    return text if len(text) <= 300 else text[:297] + "..."


def main() -> int:
    """The command line."""
    limit()
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    began = time.monotonic()
    try:
        with sys.stdin.buffer if sys.argv[1] == "-" else open(sys.argv[1], "rb") as f:
            config = json.load(f)
        out = look(config).__dict__
    except BadInput as e:
        about = "base" if str(e).startswith("base") else "dataset"
        out = Report(faults=[{"field": about, "message": str(e), "hint": ""}]).__dict__
    except OSError as e:
        print(f"precheck: {e}", file=sys.stderr)
        return 1
    out["seconds"] = round(time.monotonic() - began, 3)
    json.dump(out, sys.stdout, ensure_ascii=False)
    print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
