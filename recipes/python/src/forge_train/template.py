"""Which chat template writes messages as text: the tokenizer's own, or ChatML where the base brings none.

ChatML is what most open models are tuned with. Where its two marks are tokens of the vocabulary (the bases of Qwen and
many others) it is taken by itself; elsewhere it has to be asked for, since a mark costs several tokens there.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

AUTO, TOKENIZER, NAME_OF_CHATML = "auto", "tokenizer", "chatml"
CHOICES = (AUTO, TOKENIZER, NAME_OF_CHATML)

MARKS = ("<|im_start|>", "<|im_end|>")

# The generation block is what train.assistant_only_loss learns from: the answer with its end, not its header.
CHATML = (
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' + message['role'] + '\\n' -}}"
    "{%- if message['role'] == 'assistant' -%}"
    "{%- generation -%}{{- message['content'] + '<|im_end|>\\n' -}}{%- endgeneration -%}"
    "{%- else -%}{{- message['content'] + '<|im_end|>\\n' -}}{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)


def lacking(path: Path, wanted: str, read: Callable[[Path], dict]) -> bool:
    """Say that messages cannot be written for the base model in path; read returns the content of a JSON file."""
    if wanted == NAME_OF_CHATML or brought(path, read):
        return False
    return wanted == TOKENIZER or not _knows_marks(path, read)


def brought(path: Path, read: Callable[[Path], dict]) -> bool:
    """Say whether the tokenizer in path has a template of its own."""
    if (path / "chat_template.jinja").is_file() or (path / "chat_template.json").is_file():
        return True
    config = path / "tokenizer_config.json"
    return config.is_file() and bool(read(config).get("chat_template"))


def _knows_marks(path: Path, read: Callable[[Path], dict]) -> bool:
    file = path / "tokenizer.json"
    added = read(file).get("added_tokens") or [] if file.is_file() else []
    return set(MARKS) <= {t.get("content") for t in added if isinstance(t, dict)}


def apply(tokenizer, wanted: str) -> None:
    """Give the tokenizer the template that is wanted; what the run leaves behind has it, too."""
    if wanted == NAME_OF_CHATML or (wanted == AUTO and not tokenizer.chat_template and _has_marks(tokenizer)):
        tokenizer.chat_template = CHATML


def _has_marks(tokenizer) -> bool:
    return set(MARKS) <= tokenizer.get_added_vocab().keys()
