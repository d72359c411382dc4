"""A few reward functions that are there: rlhf.reward_functions=builtin:NAME."""

from __future__ import annotations

import json


def length(batch) -> list[float]:
    """Tokens of the answer, in hundreds; with a negative weight shorter is better."""
    return [len(ids) / 100 for ids in batch.completion_ids]


def no_repetition(batch) -> list[float]:
    """The share of three words in a row that stand there for the first time; 1 for less than three words."""
    return [_new(text.split()) for text in batch.completion]


def _new(words: list[str]) -> float:
    runs = list(zip(words, words[1:], words[2:]))
    return len(set(runs)) / len(runs) if runs else 1.0


def is_json(batch) -> list[float]:
    """1 for an answer that is a JSON object or list and nothing else, 0 for any other."""
    return [float(_is_json(text)) for text in batch.completion]


def _is_json(text: str) -> bool:
    try:
        return isinstance(json.loads(text), (dict, list))
    except (ValueError, RecursionError):
        return False


ALL = {"length": length, "no_repetition": no_repetition, "json": is_json}
