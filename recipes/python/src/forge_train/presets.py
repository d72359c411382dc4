"""Rows of known shapes, as rows of a kind; internal/dataset makes the same of them (docs/dataset-formats.md)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .outcome import BadInput

_ROLES = {
    "user": ("human", "user"),
    "assistant": ("gpt", "chatgpt", "assistant", "model"),
    "system": ("system",),
    "tool": ("tool", "observation", "function_response"),
}
_ROLE = {name: role for role, names in _ROLES.items() for name in names}


def _text(where: str, row: dict, name: str, must: bool) -> str:
    """The text of a column; null is as good as none where none will do."""
    value: Any = row.get(name)
    if isinstance(value, str):
        return value
    if must and name not in row:
        raise BadInput(f"{where}: has no column {name}")
    if must or value is not None:
        raise BadInput(f"{where}: {name} is no text")
    return ""


def _rest(row: dict, *taken: str) -> dict:
    return {k: v for k, v in row.items() if k not in taken}


def alpaca(where: str, row: dict) -> dict:
    """Instruction and input are the prompt, output the completion; with system or history they are messages."""
    ask, more = _text(where, row, "instruction", True), _text(where, row, "input", False)
    answer, system = _text(where, row, "output", True), _text(where, row, "system", False)
    prompt = "\n".join(filter(None, (ask, more)))
    if "system" not in row and "history" not in row:
        made = {"prompt": prompt, "completion": answer}
        return made | _rest(row, "instruction", "input", "output", "prompt", "completion")
    turns = [{"role": "system", "content": system}] if system else []
    past = row.get("history")
    if past is not None and not isinstance(past, list):
        raise BadInput(f"{where}: history is no list of [question, answer]")
    for n, pair in enumerate(past or []):
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(p, str) for p in pair):
            raise BadInput(f"{where}: history[{n}] is not two strings, a question and an answer")
        turns += [{"role": "user", "content": pair[0]}, {"role": "assistant", "content": pair[1]}]
    turns.append({"role": "user", "content": prompt})
    made = {"prompt": turns, "completion": [{"role": "assistant", "content": answer}]}
    return made | _rest(row, "instruction", "input", "output", "system", "history", "prompt", "completion")


def sharegpt(where: str, row: dict) -> dict:
    """Conversations of from and value are messages; a column system is the first turn, unless there is one."""
    if "conversations" not in row:
        raise BadInput(f"{where}: has no column conversations")
    talk = row["conversations"]
    if not isinstance(talk, list):
        raise BadInput(f"{where}: conversations is no list of turns")
    system, messages = _text(where, row, "system", False), []
    for n, turn in enumerate(talk):
        at = f"{where}: conversations[{n}]"
        if not isinstance(turn, dict):
            raise BadInput(f"{at} is no object with from and value")
        role = _ROLE.get(_text(at, turn, "from", True))
        if role is None:
            raise BadInput(f"{at}: from is not one of {', '.join(_ROLE)}")
        said = _text(at, turn, "value", True)
        if n == 0 and system and role != "system":
            messages.append({"role": "system", "content": system})
        messages.append({"role": role, "content": said} | _rest(turn, "from", "value", "role", "content"))
    return {"messages": messages} | _rest(row, "conversations", "system", "messages")


PRESETS: dict[str, Callable[[str, dict], dict]] = {"alpaca": alpaca, "sharegpt": sharegpt}
