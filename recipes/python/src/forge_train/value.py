"""The value model of PPO: from what it begins, and policy and value model as one module.

One module, so that one optimizer, one DDP and one gradient norm cover both. The value model is a model with a scoring head of its own,
never the policy's: what it learns must not move the policy.
"""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import torch
from torch import nn

from . import adapter, assemble, base
from .outcome import BadInput

ADAPTER = "adapter_config.json"
WEIGHTS = "value.safetensors"  # in a checkpoint: what is trained of the value model


class PolicyAndValue(nn.Module):
    """Both models; called for what learning needs, so that DDP sees every trained weight in each pass."""

    def __init__(self, policy: nn.Module, value: nn.Module):
        super().__init__()
        self.policy, self.value = policy, value
        self.config = policy.config
        self._keys_to_ignore_on_save = getattr(policy, "_keys_to_ignore_on_save", None)  # transformers asks when it loads

    def forward(self, ids, mask, answer: int):
        """Logits and values before each of the last tokens, as many as answer says."""
        return logits(self.policy, ids, mask, answer), values(self.value, ids, mask, answer)

    def gradient_checkpointing_enable(self, **kwargs) -> None:
        """Both recompute; frozen weights below an adapter would else cut the gradients off."""
        for model in (self.policy, self.value):
            model.gradient_checkpointing_enable(**kwargs)
            if hasattr(model, "peft_config"):
                model.enable_input_require_grads()

    def gradient_checkpointing_disable(self) -> None:
        """As transformers calls it."""
        self.policy.gradient_checkpointing_disable()
        self.value.gradient_checkpointing_disable()


def inputs(ids, mask) -> dict:
    """What a model gets of rows that are padded on the left: padding has no place and takes no part."""
    seen = mask.long()
    return {
        "input_ids": ids.masked_fill(~mask, 0),
        "attention_mask": seen,
        "position_ids": seen.cumsum(1) - seen,
        "use_cache": False,
    }


def logits(policy, ids, mask, answer: int):
    """The policy's logits for each of the last tokens, in 32 bits; where the model can, those of the prompt are never computed."""
    can = "logits_to_keep" in inspect.signature(_inner(policy).forward).parameters
    few = {"logits_to_keep": answer + 1} if can else {}
    return policy(**inputs(ids, mask), **few).logits[:, -answer - 1 : -1].float()


def values(model, ids, mask, answer: int):
    """The value before each of the last tokens."""
    inner = _inner(model)
    hidden = getattr(inner, inner.base_model_prefix)(**inputs(ids, mask)).last_hidden_state[:, -answer - 1 : -1]
    return inner.score(hidden).squeeze(-1).float()


def _inner(model):
    return model.get_base_model() if hasattr(model, "peft_config") else model


def begin(job, have: assemble.Parts):
    """The value model that training begins with: the reward model where that is over the same base, else the base with a new head."""
    from peft import get_peft_model
    from transformers import set_seed

    reward = job.config.get("reward_model") or {}
    path = Path(reward["path"]) if reward.get("path") else None
    adapted = path is not None and (path / ADAPTER).is_file()
    if path is None or not (_over(job, reward) if adapted else _shaped_like(job, path)):
        model = assemble.parts(job, "SEQ_CLS").model
        assemble.without_dropout(model)
    else:
        model = _load(job, have, job.base if adapted else path)
        if adapted:
            model = _with_adapter(model, path, job.params)
            if have.peft is not None:
                return model
            return model.merge_and_unload().requires_grad_(True)
    if not hasattr(model, "score"):
        raise BadInput(
            f"a model of {job.base} has no scoring head that PPO's value model could use; take rlhf.algorithm=grpo or rloo"
        )
    if have.peft is None:
        return model
    set_seed(job.params["train.seed"])
    return get_peft_model(model, adapter.config(job.params, model, "SEQ_CLS"))


def _over(job, reward: dict) -> bool:
    """Say whether a reward model that is an adapter is one over this run's base."""
    theirs, ours = reward.get("base") or {}, job.config.get("base") or {}
    if theirs.get("sha256") and isinstance(ours, dict) and ours.get("sha256"):
        return theirs["sha256"] == ours["sha256"]
    return bool(theirs.get("path")) and Path(theirs["path"]).resolve() == job.base.resolve()


def _shaped_like(job, path: Path) -> bool:
    theirs, ours = (json.loads((p / "config.json").read_bytes()) for p in (path, job.base))
    return all(theirs.get(k) == ours.get(k) for k in ("model_type", "hidden_size", "num_hidden_layers", "vocab_size"))


def _load(job, have: assemble.Parts, path: Path):
    params = job.params
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[have.number_format]
    if have.peft is None:
        dtype = torch.float32
    quantization = adapter.quantization(params, job.runtime.gang.device, dtype)
    model, _ = base.load(path, dtype, "SEQ_CLS", quantization, params["train.chat_template"], job.trust)
    assemble.without_dropout(model)
    return model


def _with_adapter(model, path: Path, params: dict):
    """The reward model's own adapter, which goes on learning."""
    from peft import PeftConfig, PeftModel

    config = PeftConfig.from_pretrained(str(path))
    config.inference_mode = False
    config.lora_dropout = params["lora.dropout"]
    return PeftModel.from_pretrained(model, str(path), config=config, is_trainable=True, torch_device="cpu")


def save(model, directory: Path) -> None:
    """What is trained of the value model, into a checkpoint."""
    from safetensors.torch import save_file

    trained = {n: p.detach().contiguous() for n, p in model.named_parameters() if p.requires_grad}
    save_file(trained, directory / WEIGHTS, metadata={"format": "pt"})


def restore(model, directory: Path) -> bool:
    """Take it from a checkpoint; False when it has none, or one of another shape."""
    from safetensors.torch import load_file

    if not (directory / WEIGHTS).is_file():
        return False
    saved = load_file(directory / WEIGHTS)
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    if {n: p.shape for n, p in trained.items()} != {n: t.shape for n, t in saved.items()}:
        return False
    with torch.no_grad():
        for name, tensor in saved.items():
            trained[name].copy_(tensor)
    return True
