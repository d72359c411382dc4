"""The reward model: what must lie in its directory, how it is loaded, and how it scores an answer.

It is one that the recipe reward leaves (or any other with one output): a whole sequence-classification model, or an
adapter with its scoring head over a base model. It must have the policy's vocabulary: PPO's value model starts from it and
reads the policy's tokens.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path

from . import prompts
from .outcome import BadInput

NAME = "model"  # of its reward, beside those of functions
_HEADS = ("score", "classifier")
_HEADER = 100 << 20  # bytes, as safetensors has it


@dataclass(frozen=True)
class Paths:
    """Where it lies; base is what an adapter is over."""

    model: Path
    base: Path | None

    @property
    def adapter(self) -> bool:
        """Say whether it is one over a base model."""
        return (self.model / "adapter_config.json").is_file()

    def whole(self) -> Path:
        """The directory with config.json and, where there is no other, the tokenizer."""
        return self.base if self.adapter and self.base else self.model

    def tokenizer(self) -> Path:
        """The directory that a tokenizer is loaded from."""
        return next((p for p in (self.model, self.whole()) if (p / "tokenizer_config.json").is_file()), self.model)


def paths(config: dict) -> Paths:
    """From the configuration: {name, sha256, path, base: {path, …}}."""
    given = config.get("reward_model")
    found: list[Path | None] = []
    for what, value in (("reward_model", given), ("reward_model.base", given.get("base") if isinstance(given, dict) else None)):
        path = value.get("path") if isinstance(value, dict) else value
        if path is None and what != "reward_model":
            found.append(None)
            continue
        if not isinstance(path, str) or not path.startswith("/"):
            raise BadInput(f"the configuration's {what} has no absolute path: {path!r}")
        found.append(Path(path))
    return Paths(found[0], found[1])


def check(at: Paths, policy: Path) -> None:
    """Refuse one without a scoring head, or of another vocabulary than the policy's; needs no torch."""
    said = f"reward model {at.model}"
    if not at.model.is_dir():
        raise BadInput(f"{said} is not a directory on this node")
    if at.adapter:
        adapter = _json(at.model / "adapter_config.json", said)
        if adapter.get("task_type") != "SEQ_CLS":
            raise BadInput(
                f"{said} has no scoring head: task_type in adapter_config.json is {adapter.get('task_type')!r}, want SEQ_CLS; "
                "the recipe reward trains one"
            )
        if at.base is None:
            raise BadInput(f"{said} is an adapter, and the configuration names no base model for it")
        if not at.base.is_dir():
            raise BadInput(f"{said}: its base model {at.base} is not a directory on this node")
    else:
        kinds = _json(at.model / "config.json", said).get("architectures") or []
        if not any(str(k).endswith("ForSequenceClassification") for k in kinds):
            raise BadInput(
                f"{said} has no scoring head: architectures in config.json is {', '.join(map(str, kinds)) or 'not there'}, want one "
                "ForSequenceClassification; the recipe reward trains one"
            )
    _check_head(at, said)
    ours, theirs = _vocabulary(policy), _vocabulary(at.tokenizer())
    if ours is not None and theirs is not None and ours != theirs:
        raise BadInput(
            f"{said} has another vocabulary than the policy {policy}: {_difference(ours, theirs)}. "
            "Train a reward model on the same base model as the policy"
        )


def _check_head(at: Paths, said: str) -> None:
    """The weights of the head are there, and give one number."""
    files = sorted(at.model.glob("adapter_model*.safetensors" if at.adapter else "model*.safetensors"))
    if not files:  # a .bin, which cannot be looked into without torch; loading it says the rest
        if not any(at.model.glob("*.bin")):
            raise BadInput(f"{said} has no weights: want {'adapter_model' if at.adapter else 'model'}.safetensors")
        return
    for file in files:
        for name, about in _tensors(file, said).items():
            parts = name.split(".")
            if any(h in parts for h in _HEADS) and parts[-1] in ("weight", "default") and "lora" not in name:
                shape = about.get("shape") or [0]
                if len(shape) == 2 and shape[0] != 1:
                    raise BadInput(f"{said}: its head {name} has {shape[0]} outputs, want 1")
                return
    raise BadInput(
        f"{said} has no scoring head: there is no weight {' or '.join(h + '.weight' for h in _HEADS)} in "
        f"{', '.join(f.name for f in files)}"
    )


def _tensors(file: Path, said: str) -> dict[str, dict]:
    """The header of a safetensors file."""
    try:
        with open(file, "rb") as f:
            (size,) = struct.unpack("<Q", f.read(8))
            header = json.loads(f.read(size)) if size <= _HEADER else None
    except (OSError, ValueError, struct.error) as e:
        raise BadInput(f"{said}: {file.name} is no whole safetensors file: {e}") from e
    if not isinstance(header, dict):
        raise BadInput(f"{said}: {file.name} is no whole safetensors file")
    return {k: v for k, v in header.items() if k != "__metadata__" and isinstance(v, dict)}


def _json(file: Path, said: str) -> dict:
    try:
        data = json.loads(file.read_bytes())
    except FileNotFoundError as e:
        raise BadInput(f"{said} has no {file.name}") from e
    except (OSError, ValueError) as e:
        raise BadInput(f"{said}: {file.name} cannot be read: {e}") from e
    if not isinstance(data, dict):
        raise BadInput(f"{said}: {file.name} is not a JSON object")
    return data


def _vocabulary(path: Path) -> dict[int, str] | bytes | None:
    """Tokens by id; of older formats the file itself; None where there is none to read."""
    file = path / "tokenizer.json"
    if file.is_file():
        data = _json(file, f"tokenizer of {path}")
        words = (data.get("model") or {}).get("vocab") or {}
        tokens = {i: t for t, i in words.items()} if isinstance(words, dict) else {i: str(w[0]) for i, w in enumerate(words)}
        return tokens | {t["id"]: t["content"] for t in data.get("added_tokens") or [] if isinstance(t, dict)}
    for name in ("tokenizer.model", "vocab.json", "spiece.model", "vocab.txt"):
        if (path / name).is_file():
            return (path / name).read_bytes()
    return None


def _difference(ours, theirs) -> str:
    if not isinstance(ours, dict) or not isinstance(theirs, dict):
        return "their files differ"
    first = min(i for i in ours.keys() | theirs.keys() if ours.get(i) != theirs.get(i))
    return (
        f"{len(theirs)} tokens and {len(ours)}, the first that differs is {first}, "
        f"{theirs.get(first, 'none')!r} there and {ours.get(first, 'none')!r} in the policy"
    )


class RewardModel:
    """Loaded, frozen, and asked in batches."""

    def __init__(self, at: Paths, tokenizer, dtype, device: str, batch_size: int, trust: bool):
        """Load it in the run's number format; tokenizer is the policy's, which has the same vocabulary."""
        from transformers import AutoTokenizer

        self.model = load(at, dtype, trust).to(device)
        self.tokenizer = AutoTokenizer.from_pretrained(at.tokenizer(), local_files_only=True, trust_remote_code=trust)
        if not self.tokenizer.chat_template:
            self.tokenizer.chat_template = tokenizer.chat_template
        pad = self.tokenizer.pad_token_id
        self.pad = self.tokenizer.eos_token_id if pad is None else pad
        self.model.config.get_text_config().pad_token_id = self.pad  # by which it finds the last token of a row
        self.longest = prompts.context(at.whole())
        self.device, self.batch_size = device, batch_size

    def score(self, batch) -> list[float]:
        """One number per answer: of prompt and answer written as the recipe reward has written them to learn."""
        rows = [self._ids(batch, i) for i in range(len(batch))]
        scores: list[float] = []
        for i in range(0, len(rows), self.batch_size):
            scores += self._scores(rows[i : i + self.batch_size])
        return scores

    def _ids(self, batch, i: int) -> list[int]:
        prompt = batch.prompt[i]
        if isinstance(prompt, str):
            ids, end = batch.prompt_ids[i] + batch.completion_ids[i], self.tokenizer.eos_token_id
            ids = ids if end is None or ids[-1:] == [end] else [*ids, end]
        else:
            talk = [*prompt, {"role": "assistant", "content": batch.completion[i]}]
            text = self.tokenizer.apply_chat_template(talk, tokenize=False)
            ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        if self.longest and len(ids) > self.longest:
            raise BadInput(
                f"prompt and answer have {len(ids)} tokens and the reward model reads {self.longest} "
                f"({batch.place[i]}); lower generation.max_new_tokens or train.max_length"
            )
        return ids

    def _scores(self, rows: list[list[int]]) -> list[float]:
        import torch

        width = max(map(len, rows))
        ids = torch.tensor([r + [self.pad] * (width - len(r)) for r in rows], device=self.device)
        mask = torch.tensor([[1] * len(r) + [0] * (width - len(r)) for r in rows], device=self.device)
        with torch.no_grad():
            return self.model(input_ids=ids, attention_mask=mask).logits[:, 0].float().tolist()


def load(at: Paths, dtype, trust: bool = False):
    """The model alone, frozen and in eval mode, on the CPU: AutoModelForSequenceClassification, with its adapter over it."""
    from safetensors import SafetensorError
    from transformers import AutoModelForSequenceClassification

    from .base import without_notes

    try:
        with without_notes(at.adapter):  # that the base has no head is the point of the adapter
            model = AutoModelForSequenceClassification.from_pretrained(
                at.whole(), dtype=dtype, num_labels=1, local_files_only=True, trust_remote_code=trust
            )
        if at.adapter:
            from peft import PeftModel

            model = PeftModel.from_pretrained(model, at.model, is_trainable=False, autocast_adapter_dtype=False)
    except (ValueError, OSError, KeyError, RuntimeError, SafetensorError) as e:
        if isinstance(e, OSError) and e.errno is not None:
            raise
        raise BadInput(f"reward model {at.model} cannot be loaded: {e}") from e
    model.requires_grad_(False)
    return model.eval().to(dtype)
