"""Dataset rows: read, and refused with file and line before anything heavy is imported.

formats.py reads them. Two passes over the files instead of one that keeps every row: the first only looks, so a
malformed last line of a large dataset is found before the model is loaded; the second
fills Arrow tables chunk by chunk, which hold text far more tightly than Python objects.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from . import formats, pairs
from .formats import type_of
from .outcome import BadInput

KINDS = ("messages", "text", "prompt_completion")
_COLUMNS = {
    "messages": ("messages",),
    "text": ("text",),
    "prompt_completion": ("prompt", "completion"),
    "preference": ("chosen", "rejected"),  # and prompt, where it is not what both begin with
    "prompt": ("prompt",),
}
_ROW, _PLACE = "row", "place"  # what goes with a prompt: its other columns as JSON, for rewards; its file and line
_CHUNK = 4096


@dataclass(frozen=True)
class Rows:
    """A dataset that has been looked at, row by row."""

    files: tuple[Path, ...]
    columns: tuple[str, ...]
    conversational: bool  # the row's columns hold messages, not text
    count: int
    prompts: bool = False  # rows are prompts: what else they have goes with them
    layout: formats.Layout = field(default_factory=formats.Layout)

    def read(self) -> Iterator[dict]:
        """The rows again, only with the columns that training uses."""
        keep = _keeper(self.columns, self.conversational)
        for where, row in formats.read(self.files, self.layout):
            kept = keep(row)
            if self.prompts:
                more = {k: v for k, v in row.items() if k not in self.columns}
                kept |= {_ROW: json.dumps(more, ensure_ascii=False), _PLACE: where}
            yield kept

    def to_dataset(self):
        """The rows as a datasets.Dataset in memory."""
        import datasets
        import pyarrow as pa

        message = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
        value = message if self.conversational else pa.string()
        beside = (_ROW, _PLACE) if self.prompts else ()
        schema = pa.schema([*((c, value) for c in self.columns), *((c, pa.string()) for c in beside)])
        tables, chunk = [], []
        for row in self.read():
            chunk.append(row)
            if len(chunk) == _CHUNK:
                tables.append(pa.Table.from_pylist(chunk, schema=schema))
                chunk = []
        tables.append(pa.Table.from_pylist(chunk, schema=schema))
        return datasets.Dataset(pa.concat_tables(tables))


def inspect(
    path: Path,
    kind: str = "",
    kinds: tuple[str, ...] = KINDS,
    assistant_only: bool = False,
    config: Mapping[str, Any] = MappingProxyType({}),
) -> Rows:
    """Look at every row; raise BadInput for the first that does not do. config says how the files are laid out, and which they are."""
    layout = formats.Layout.of(config)
    files = formats.files_of(path, config.get("dataset_files"))
    count = 0
    conversational, columns = False, ()
    for where, row in formats.read(files, layout):
        if count == 0:
            kind = _kind_of(where, row, kind, kinds)
            columns = _COLUMNS[kind]
            if kind == "preference" and "prompt" in row:
                columns = ("prompt", *columns)
            conversational = kind == "messages" or isinstance(row.get(columns[0]), list)
            if assistant_only and not conversational:
                raise BadInput(f"train.assistant_only_loss is on and dataset {path} holds no messages")
        _check_row(where, row, kind, columns, conversational, assistant_only)
        if kind == "preference":
            pairs.check(where, row, conversational)
        elif kind == "prompt":
            _check_prompt(where, row["prompt"])
        count += 1
    if count == 0:
        raise BadInput(f"dataset {path} is empty: it has no rows")
    return Rows(files, columns, conversational, count, kind == "prompt", layout)


def _kind_of(where: str, row: dict, wanted: str, kinds: tuple[str, ...]) -> str:
    if wanted:
        if wanted not in kinds:
            raise BadInput(f"dataset kind {wanted!r} does not suit this recipe: want one of {', '.join(kinds)}")
        return wanted
    for kind in kinds:
        if all(c in row for c in _COLUMNS[kind]):
            return kind
    raise BadInput(
        f"{where}: columns are {', '.join(sorted(row)) or 'none'}; want "
        + ", or ".join(" and ".join(_COLUMNS[k]) for k in kinds)
    )


def _check_row(
    where: str, row: dict, kind: str, columns: tuple[str, ...], conversational: bool, assistant_only: bool
) -> None:
    for column in columns:
        if column not in row:
            raise BadInput(
                f"{where}: column {column} is missing (dataset kind {kind}); "
                f"columns are {', '.join(sorted(row)) or 'none'}"
            )
        value = row[column]
        if conversational:
            _check_messages(where, column, value)
        elif not isinstance(value, str):
            raise BadInput(f"{where}: {column} must be a text, is {type_of(value)}")
        elif not value and column != "prompt":
            raise BadInput(f"{where}: {column} is empty")
    if assistant_only and not any(m["role"] == "assistant" for m in row[columns[-1]]):
        raise BadInput(f"{where}: train.assistant_only_loss is on and the row has no assistant message")


def _check_messages(where: str, column: str, value: object) -> None:
    if not isinstance(value, list):
        raise BadInput(f"{where}: {column} must be a list of messages, is {type_of(value)}")
    if not value:
        raise BadInput(f"{where}: {column} is an empty list")
    for i, message in enumerate(value):
        if not isinstance(message, dict):
            raise BadInput(f"{where}: {column}[{i}] must be an object with role and content, is {type_of(message)}")
        for field in ("role", "content"):
            if not isinstance(message.get(field), str):
                have = type_of(message[field]) if field in message else "missing"
                raise BadInput(f"{where}: {column}[{i}].{field} must be a text, is {have}")


def _check_prompt(where: str, prompt: str | list[dict]) -> None:
    """A prompt asks: it is not empty, and the assistant has not the last word in it."""
    if isinstance(prompt, str):
        if not prompt.strip():
            raise BadInput(f"{where}: prompt is empty")
    elif prompt[-1]["role"] not in ("user", "tool"):
        raise BadInput(f"{where}: prompt ends with the role {prompt[-1]['role']!r}; want a user's turn, which is answered")
    elif not prompt[-1]["content"].strip():
        raise BadInput(f"{where}: the last turn of prompt is empty")


def _keeper(columns: tuple[str, ...], conversational: bool) -> Callable[[dict], dict]:
    if not conversational:
        return lambda row: {c: row[c] for c in columns}
    return lambda row: {c: [{"role": m["role"], "content": m["content"]} for m in row[c]] for c in columns}
