"""Prompts that are answered: as tokens, short enough for the model's context, and where an answer to them ends."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .outcome import BadInput


def ids(tokenizer, prompt: str | list[dict]) -> list[int]:
    """The tokens of a prompt, as the policy gets them."""
    if isinstance(prompt, str):
        return tokenizer(prompt)["input_ids"]
    text = tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def context(model: Path) -> int:
    """Tokens that a model was made for, by its config.json; 0: it does not say."""
    try:
        config = json.loads((model / "config.json").read_bytes())
    except (OSError, ValueError):
        return 0
    n = config.get("max_position_embeddings") or (config.get("text_config") or {}).get("max_position_embeddings")
    return n if isinstance(n, int) else 0


def longest(params: Mapping[str, Any], *contexts: int) -> tuple[int, str]:
    """Tokens that a prompt may have, and a phrase that says why; contexts of 0 are not known."""
    room, why = params["train.max_length"], "train.max_length"
    for context in contexts:
        if 0 < context < room:
            room, why = context, "max_position_embeddings of the model"
    new = params["generation.max_new_tokens"]
    return room - new, f"{why} = {room} less generation.max_new_tokens = {new}"


def check(tokenizer, rows: Iterable[dict], most: int, why: str) -> None:
    """Refuse the first prompt that leaves no room for its answer."""
    if most < 1:
        raise BadInput(f"no prompt has room: {why} leaves {most} tokens; lower generation.max_new_tokens")
    for row in rows:
        length = len(ids(tokenizer, row["prompt"]))
        if length > most:
            raise BadInput(
                f"{row['place']}: the prompt has {length} tokens and may have {most} ({why}); shorten it, leave it out, "
                "or lower generation.max_new_tokens"
            )


def ends(tokenizer, model, conversational: bool) -> list[int]:
    """Tokens at which an answer is over: the model's and the tokenizer's, and what the chat template ends a turn with."""
    given = model.generation_config.eos_token_id
    found = list(given) if isinstance(given, (list, tuple)) else [] if given is None else [given]
    if tokenizer.eos_token_id is not None:
        found.append(tokenizer.eos_token_id)
    if conversational:
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": "a"}, {"role": "assistant", "content": "zq"}], tokenize=False
        )
        after = tokenizer(text.rpartition("zq")[2], add_special_tokens=False)["input_ids"]
        if after and after[0] in tokenizer.get_added_vocab().values():
            found.append(after[0])
    return list(dict.fromkeys(found))
