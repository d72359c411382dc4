"""A start adapter: what it must be, how training begins from it, and how what was learnt is joined to it.

It is merged into the base's weights in memory and a new adapter is trained on top, so that the model with its
adapter disabled, which is what DPO and RLHF compare with, is the one that training began from. Checkpoints hold
the new adapter alone. What a run leaves is one adapter over the plain base again: of the two matrices of each
module the rows and the columns are put side by side, which adds up to the sum of both.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import checkpoint, keep
from .outcome import BadInput
from .rundir import write_json

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_HEADS = {"score", "classifier"}
_PREFIX, _A, _B = "base_model.model.", ".lora_A.weight", ".lora_B.weight"

# What an adapter may be besides LoRA, and cannot be said by two matrices side by side.
_BEYOND = {
    "use_dora": "DoRA",
    "lora_bias": "biases of its own",
    "trainable_token_indices": "tokens of its own",
    "layer_replication": "layers that are used twice",
    "target_parameters": "adapted parameters that belong to no linear module",
    "alora_invocation_tokens": "tokens that switch it on",
    "use_bdlora": "matrices of blocks",
    "use_qalora": "groups of quantisation",
}


@dataclass(frozen=True)
class Start:
    """The adapter that training begins from."""

    name: str
    path: Path
    sha256: str  # of its weights, as this rank has read them
    head: bool  # it is of a reward model, and brings its scoring head

    @property
    def tokenizer(self) -> Path | None:
        """Where the tokenizer lies that it was trained with, with its chat template."""
        return self.path if (self.path / "tokenizer_config.json").is_file() else None


def inspect(path: Path, given: Mapping[str, Any], base: Any) -> Start:
    """Look at a start adapter before anything heavy; BadInput for what it lacks, or is beyond plain LoRA."""
    name = given.get("name") or str(path)
    where = f"start adapter {name} ({path})"
    if not path.is_dir():
        raise BadInput(f"{where} is not a directory on this node")
    config = _config(path, where)
    kind = config.get("peft_type")
    if kind != "LORA":
        raise BadInput(f"{where} is of kind {kind}; a run can begin from a LoRA adapter only. Merge it into its base instead")
    beyond = [words for key, words in _BEYOND.items() if config.get(key)]
    if config.get("bias", "none") != "none":
        beyond.append("trained biases")
    if isinstance(config.get("init_lora_weights"), str) and config["init_lora_weights"] != "gaussian":
        beyond.append(f"a base of its own (init_lora_weights is {config['init_lora_weights']})")
    saved = set(config.get("modules_to_save") or ())
    if saved - _HEADS:
        beyond.append(f"whole modules ({', '.join(sorted(saved - _HEADS))})")
    if beyond:
        raise BadInput(
            f"{where} has {' and '.join(beyond)}, which cannot be joined with a new adapter; "
            "merge it into its base (output.merge=merged), register that model and begin from it"
        )
    if not (path / WEIGHTS).is_file():
        raise BadInput(f"{where} has no {WEIGHTS}")
    over, of = (given.get("base") or {}).get("sha256"), base.get("sha256") if isinstance(base, dict) else None
    if over and of and over != of:
        raise BadInput(
            f"{where} is an adapter over {given['base'].get('name') or over[:12]}, and the base of this run is "
            f"{base.get('name') or of[:12]}: an adapter fits the base that it was trained over alone"
        )
    return Start(name, path, checkpoint.digest_of(path / WEIGHTS)[0], bool(saved))


def _config(path: Path, where: str) -> dict:
    try:
        config = json.loads((path / CONFIG).read_bytes())
    except FileNotFoundError as e:
        raise BadInput(f"{where} has no {CONFIG}: it is no adapter") from e
    except ValueError as e:
        raise BadInput(f"{where}: {CONFIG} is not JSON: {e}") from e
    if not isinstance(config, dict):
        raise BadInput(f"{where}: {CONFIG} is not a JSON object")
    return config


def check_resume(resume: Path | None, start: Start | None) -> None:
    """A checkpoint means something on top of the start that it was trained on, and of no other."""
    if resume is None:
        return
    was, now = keep.read(resume).get("start_weights_sha256"), start.sha256 if start else None
    if was == now:
        return
    words = [f"the start adapter with weights of sha256 {d[:12]}…" if d else "no start adapter" for d in (was, now)]
    raise BadInput(f"checkpoint {resume} was trained on top of {words[0]}, and this attempt has {words[1]}")


def check_tokenizer(start: Start, own, theirs) -> None:
    """An adapter means nothing over another vocabulary."""
    if own.get_vocab() != theirs.get_vocab():
        raise BadInput(
            f"start adapter {start.name}: its tokenizer has {len(own)} tokens and is not the base's with {len(theirs)}; "
            "an adapter fits the base that it was trained over alone"
        )


def merge_into(model, start: Start, task: str):
    """The model with the start in its weights, all of them trainable again."""
    from peft import LoraConfig, PeftModel, get_peft_model_state_dict
    from safetensors import SafetensorError, safe_open

    where = f"start adapter {start.name} ({start.path})"
    if start.head and task != "SEQ_CLS":
        raise BadInput(f"{where} is of a reward model: it has a scoring head, and this recipe trains a model that writes")
    try:
        config = LoraConfig.from_pretrained(str(start.path))
        config.task_type = None  # one of a model that writes may begin a reward model
        # to the CPU: else every rank of a node would put it on the first GPU
        adapted = PeftModel.from_pretrained(model, str(start.path), config=config, torch_device="cpu")
        with safe_open(start.path / WEIGHTS, "pt") as f:
            lost = set(f.keys()) - set(get_peft_model_state_dict(adapted))
    except (ValueError, KeyError, RuntimeError, SafetensorError) as e:
        raise BadInput(f"{where} does not fit the base model: {e}") from e
    if lost:
        raise BadInput(f"{where} does not fit the base model, which has nothing for {', '.join(sorted(lost)[:3])}")
    merged = adapted.merge_and_unload()
    if hasattr(merged, "peft_config"):
        del merged.peft_config
    return merged.requires_grad_(True)  # PEFT froze it


def onto(output: Path, start: Start) -> None:
    """Make of the adapter in output, which was trained on top of start, one over the plain base."""
    from safetensors.torch import load_file, save_file

    if checkpoint.digest_of(start.path / WEIGHTS)[0] != start.sha256:
        raise OSError(f"start adapter {start.name} ({start.path}) changed while the run went on")
    config, before = _config(output, "the output"), _config(start.path, f"start adapter {start.name}")
    new, old = load_file(output / WEIGHTS), load_file(start.path / WEIGHTS)
    tensors = {k: v for k, v in new.items() if not k.endswith((_A, _B))}  # a scoring head, which begins as the start's
    pairs = [_pairs(old, before), _pairs(new, config)]
    rank = max(sum(p[m][0].shape[0] for p in pairs if m in p) for m in {*pairs[0], *pairs[1]})
    for module in sorted({*pairs[0], *pairs[1]}):
        tensors |= _side_by_side(module, [p[module] for p in pairs if module in p], rank)
    targets = [c.get("target_modules") for c in (before, config)]
    plain = all(isinstance(t, list) for t in targets) and not any(
        c.get(k) for c in (before, config) for k in ("layers_to_transform", "layers_pattern", "exclude_modules")
    )
    names = {*targets[0], *targets[1]} if plain else {m.removeprefix(_PREFIX) for p in pairs for m in p}
    config |= {
        "r": rank,
        "lora_alpha": rank,  # the scalings are in the matrices
        "use_rslora": False,
        "rank_pattern": {},
        "alpha_pattern": {},
        "target_modules": sorted(names),
        "layers_to_transform": None,
        "layers_pattern": None,
        "exclude_modules": None,
    }
    save_file(tensors, output / WEIGHTS, metadata={"format": "pt"})
    write_json(output / CONFIG, config)


def _pairs(tensors: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, tuple]:
    """The two matrices of each module, with the scaling in the second."""
    from peft.utils.other import get_pattern_key

    patterns = config.get("alpha_pattern") or {}
    pairs = {}
    for key, a in tensors.items():
        if not key.endswith(_A):
            continue
        module = key.removesuffix(_A)
        r = a.shape[0]
        alpha = patterns.get(get_pattern_key(patterns.keys(), module.removeprefix(_PREFIX)), config["lora_alpha"])
        scaling = alpha / (math.sqrt(r) if config.get("use_rslora") else r)
        pairs[module] = (a.float(), tensors[module + _B].float() * scaling)
    return pairs


def _side_by_side(module: str, parts: list[tuple], rank: int) -> dict[str, Any]:
    """One pair out of several; what is short of the rank is filled with zeros."""
    import torch

    a, b = torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts], dim=1)
    more = rank - a.shape[0]
    if more:
        a, b = torch.cat([a, a.new_zeros(more, a.shape[1])]), torch.cat([b, b.new_zeros(b.shape[0], more)], dim=1)
    return {module + _A: a.contiguous(), module + _B: b.contiguous()}
