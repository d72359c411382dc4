"""The base model: what must lie in its directory, and how it is loaded.

Only the directory is looked at, never the network: a missing shard is named before ranks
spend minutes on the shards that are there.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from . import template
from .outcome import BadInput

_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model", "vocab.txt")


def inspect(
    path: Path,
    needs_chat_template: bool,
    chat_template: str = template.AUTO,
    trust: bool = False,
    tokenizer: Path | None = None,
) -> None:
    """Raise BadInput for the first thing that a base model directory lacks, or that this site does not take.

    tokenizer is where the one lies that is taken, if not the base's.
    """
    if not path.is_dir():
        raise BadInput(f"base model {path} is not a directory on this node")
    if (path / "adapter_config.json").is_file():
        of = _read_json(path / "adapter_config.json", path).get("base_model_name_or_path") or "another model"
        raise BadInput(
            f"base model {path} is an adapter of {of} and no base model; transformers would load that one instead"
        )
    config = _read_json(path / "config.json", path)
    if config.get("auto_map") and not trust:
        raise BadInput(
            f"base model {path} brings Python code of its own (auto_map in config.json), which this site does not run: "
            "policy.trust_remote_code is false"
        )
    index = next((path / f"{w}.index.json" for w in _WEIGHTS if (path / f"{w}.index.json").is_file()), None)
    if index is not None:
        shards = sorted(set(_read_json(index, path).get("weight_map", {}).values()))
        missing = [s for s in shards if not (path / s).is_file()]
        if missing or not shards:
            raise BadInput(
                f"base model {path}: {index.name} names {len(shards)} shards, missing: {', '.join(missing) or 'all'}"
            )
    elif not any((path / w).is_file() for w in _WEIGHTS):
        raise BadInput(
            f"base model {path} has no weights: want {_WEIGHTS[0]}, or {_WEIGHTS[0]}.index.json and its shards"
        )
    if not any((path / t).is_file() for t in _TOKENIZERS):
        raise BadInput(f"base model {path} has no tokenizer: want one of {', '.join(_TOKENIZERS)}")
    if needs_chat_template and template.lacking(tokenizer or path, chat_template, lambda file: _read_json(file, path)):
        raise BadInput(
            f"base model {path}: the tokenizer has no chat template, and the dataset is of messages. "
            "Take the built-in one with train.chat_template=chatml, put a chat_template.jinja into the model's "
            "directory, or give the dataset as text"
        )


def _read_json(file: Path, base: Path) -> dict:
    try:
        data = json.loads(file.read_bytes())
    except FileNotFoundError as e:
        raise BadInput(f"base model {base} has no {file.name}") from e
    except OSError as e:
        raise BadInput(f"base model {base}: {file.name} cannot be read: {e.strerror}") from e
    except ValueError as e:
        raise BadInput(f"base model {base}: {file.name} is not JSON: {e}") from e
    if not isinstance(data, dict):
        raise BadInput(f"base model {base}: {file.name} is not a JSON object")
    return data


def load(
    path: Path,
    dtype,
    task: str = "CAUSAL_LM",
    quantization=None,
    chat_template: str = template.AUTO,
    trust: bool = False,
):
    """The model and its tokenizer, from this directory alone; SEQ_CLS gives it a head of one output."""
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

    local = {"local_files_only": True, "trust_remote_code": trust}
    more = {"num_labels": 1} if task == "SEQ_CLS" else {}
    if quantization is not None:
        more |= {"quantization_config": quantization, "device_map": {"": torch.cuda.current_device()}}
    kind = AutoModelForSequenceClassification if task == "SEQ_CLS" else AutoModelForCausalLM
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, **local)
        with without_notes(task == "SEQ_CLS"):  # that the head is new is the point
            model = kind.from_pretrained(path, dtype=dtype, **local, **more)
    except (ValueError, OSError, KeyError, RuntimeError, SafetensorError) as e:
        # Torn weights, weights that do not fit config.json, unknown architectures, code that
        # would have to be trusted. An error number comes from the filesystem, not from the content.
        if isinstance(e, OSError) and e.errno is not None:
            raise
        raise BadInput(f"base model {path} cannot be loaded: {e}") from e
    return model, _ready(path, tokenizer, chat_template)


def tokenizer(path: Path, chat_template: str = template.AUTO, trust: bool = False):
    """The tokenizer alone, as load gives it."""
    from transformers import AutoTokenizer

    try:
        found = AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=trust)
    except (ValueError, OSError, KeyError) as e:
        if isinstance(e, OSError) and e.errno is not None:
            raise
        raise BadInput(f"base model {path}: the tokenizer cannot be loaded: {e}") from e
    return _ready(path, found, chat_template)


def _ready(path: Path, tokenizer, chat_template: str):
    template.apply(tokenizer, chat_template)
    if tokenizer.pad_token is None and tokenizer.eos_token is None:
        raise BadInput(f"base model {path}: the tokenizer has neither a padding nor an end token")
    return tokenizer


@contextlib.contextmanager
def without_notes(on: bool):
    """Without what transformers has to say, where that is known."""
    from transformers.utils import logging

    was = logging.get_verbosity()
    if on:
        logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(was)
