"""Preference pairs: a prompt, an answer that was chosen and one that was rejected.

The prompt stands in a column of its own, or is what both answers begin with. A pair that says nothing (two equal
answers, an empty one) or whose halves are about two things trains without an error and teaches noise.
"""

from __future__ import annotations

from .outcome import BadInput


def check(where: str, row: dict, conversational: bool) -> None:
    """Refuse a pair that cannot be learnt from; its columns are there and of the right types."""
    chosen, rejected = row["chosen"], row["rejected"]
    for column in ("chosen", "rejected"):
        if _blank(row[column]):
            raise BadInput(f"{where}: {column} is empty")
    if conversational:
        chosen, rejected = _plain(chosen), _plain(rejected)
    if chosen == rejected:
        raise BadInput(f"{where}: chosen and rejected are equal; there is nothing to prefer")
    shared = 0
    if "prompt" not in row:
        shared = _shared(where, chosen, rejected, conversational)
    if conversational:
        before = _plain(row["prompt"]) if "prompt" in row else []
        for column, answer in (("chosen", chosen), ("rejected", rejected)):
            _check_turns(where, column, before + answer, len(before) if before else shared)


def _shared(where: str, chosen, rejected, conversational: bool) -> int:
    """The length of the prompt that both begin with."""
    n = 0
    while n < min(len(chosen), len(rejected)) and chosen[n] == rejected[n]:
        n += 1
    if n == 0:
        unit = "message" if conversational else "text"
        raise BadInput(
            f"{where}: chosen and rejected begin with a different {unit}; without a column prompt, what both begin with "
            "is the prompt"
        )
    for column, answer in (("chosen", chosen), ("rejected", rejected)):
        if not answer[n:] or (not conversational and not answer[n:].strip()):
            raise BadInput(f"{where}: {column} holds nothing but the prompt that both begin with")
    return n


def _check_turns(where: str, column: str, turns: list[tuple[str, str]], prompt: int) -> None:
    """Turns alternate: system or nothing, then user and assistant; tools answer an assistant; an assistant has the last word."""
    for i, (role, content) in enumerate(turns):
        before = turns[i - 1][0] if i else ""
        if role == "system":
            ok = i == 0
        elif role == "user":
            ok = before in ("", "system", "assistant")
        elif role == "assistant":
            ok = before in ("user", "tool")
        else:
            ok = role == "tool" and before in ("assistant", "tool")
        if not ok:
            at = f"message {i + 1} of prompt and {column}" if prompt else f"{column}[{i}]"
            raise BadInput(
                f"{where}: roles do not alternate: {at} is {role!r} after {before!r}; want user and assistant in turn, "
                "after at most one system"
                if before
                else f"{where}: {at} is {role!r}; a conversation begins with system or user"
            )
        if not content.strip():
            raise BadInput(f"{where}: the turn of {role!r} at message {i + 1} of prompt and {column} is empty")
    if turns[-1][0] != "assistant":
        raise BadInput(f"{where}: {column} ends with {turns[-1][0]!r}; want the assistant's answer")


def _plain(messages: list[dict]) -> list[tuple[str, str]]:
    return [(m["role"], m["content"]) for m in messages]


def _blank(value) -> bool:
    if isinstance(value, str):
        return not value.strip()
    return not value or all(not m["content"].strip() for m in value)
