"""What an eval is of: a whole model, or an adapter over the base that it was trained over and over no other."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import base
from .outcome import BadInput

_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model", "vocab.txt")


@dataclass(frozen=True)
class Subject:
    """Where its parts lie."""

    name: str
    sha256: str
    base_sha256: str
    weights: Path  # of the whole model, or of the base
    adapter: Path | None
    tokenizer: Path
    trust: bool


def read(config: dict) -> Subject:
    """The model of config.json; BadInput for one that cannot be what it says."""
    model = config.get("model")
    if not isinstance(model, dict) or not model.get("path"):
        raise BadInput("the configuration names no model: an eval is of one")
    name, path = str(model.get("name") or model["path"]), _absolute("model", model["path"])
    trust = config.get("trust_remote_code") is True
    under = model.get("base") if isinstance(model.get("base"), dict) else None
    if not (path / "adapter_config.json").is_file():
        if under:
            raise BadInput(f"model {name} is given with base {under.get('name')}, and {path} is no adapter: it has no adapter_config.json")
        base.inspect(path, False, trust=trust)
        return Subject(name, model.get("sha256") or "", "", path, None, path, trust)
    if not under or not under.get("path"):
        raise BadInput(f"model {name} is an adapter, and the configuration names no base under it")
    weights = _absolute("base", under["path"])
    base.inspect(weights, False, trust=trust)
    _same_base(name, path, weights, under)
    has_own = any((path / t).is_file() for t in _TOKENIZERS)
    if has_own:
        _same_vocabulary(name, path, weights, under)
    return Subject(name, model.get("sha256") or "", under.get("sha256") or "", weights, path, path if has_own else weights, trust)


def _absolute(what: str, path: Any) -> Path:
    if not isinstance(path, str) or not os.path.isabs(path):
        raise BadInput(f"{what} path {path!r} is not absolute")
    return Path(path)


def _same_base(name: str, adapter: Path, weights: Path, under: dict) -> None:
    """By digest where forge trained it, else by the directory that it names; a name on a hub says nothing that could be compared."""
    trained = _json(adapter / "training.json").get("base")
    known = trained.get("sha256") if isinstance(trained, dict) else ""
    if known and under.get("sha256"):
        if known != under["sha256"]:
            raise BadInput(
                f"eval of an adapter on the wrong base: {name} was trained over {trained.get('name')} ({known[:12]}), "
                f"and is to be evaluated over {under.get('name')} ({under['sha256'][:12]})"
            )
        return
    named = _json(adapter / "adapter_config.json").get("base_model_name_or_path") or ""
    if os.path.isabs(named) and os.path.realpath(named) != os.path.realpath(weights):
        raise BadInput(f"eval of an adapter on the wrong base: {name} names {named}, and is to be evaluated over {weights}")


def _same_vocabulary(name: str, adapter: Path, weights: Path, under: dict) -> None:
    of_adapter, of_base = _vocabulary(adapter), _vocabulary(weights)
    if not of_adapter or not of_base:
        return
    moved = next((t for t, i in of_base.items() if of_adapter.get(t) != i), None)
    if moved is not None:
        raise BadInput(
            f"eval of an adapter on the wrong base: {name} has another vocabulary than {under.get('name')}: "
            f"token {moved[:40]!r} is number {of_base[moved]} there and {of_adapter.get(moved, 'none')} here"
        )


def _vocabulary(path: Path) -> dict[str, int]:
    doc = _json(path / "tokenizer.json")
    vocab = doc.get("model", {}).get("vocab") or {}
    known = dict(vocab) if isinstance(vocab, dict) else {str(v[0]): i for i, v in enumerate(vocab) if isinstance(v, list) and v}
    return known | {str(t.get("content")): t.get("id") for t in doc.get("added_tokens") or [] if isinstance(t, dict)}


def _json(file: Path) -> dict[str, Any]:
    try:
        doc = json.loads(file.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as e:
        raise BadInput(f"{file} cannot be read: {e}") from e
    return doc if isinstance(doc, dict) else {}
