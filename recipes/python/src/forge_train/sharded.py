"""The model split over the ranks: FSDP2, and what transformers needs for it on CPU ranks.

A checkpoint of a split model is one of torch.distributed.checkpoint: pytorch_model_fsdp_0/ and optimizer_0/, each with
__R_0.distcp written by rank R and a .metadata written by rank 0. Any number of ranks of FSDP can read it.
"""

from __future__ import annotations

from pathlib import Path

from .outcome import BadInput

_WEIGHTS = "pytorch_model_fsdp_0"


def check_resume(checkpoint: Path | None, params: dict) -> None:
    """A checkpoint of a split model is read by a split model only, and a whole one by a whole one."""
    if checkpoint is None:
        return
    was = "fsdp" if (checkpoint / _WEIGHTS).is_dir() else "ddp"
    if was != params["train.parallel"]:
        raise BadInput(
            f"checkpoint {checkpoint} was saved with train.parallel={was} and this attempt has "
            f"train.parallel={params['train.parallel']}; give it {was}"
        )


class Sharded:
    """Mixin for trainers: accelerate looks for FSDP on accelerators only, and would fall back to DDP without a word."""

    def create_accelerator_and_postprocess(self) -> None:
        """Let CPU ranks split the model as GPUs do."""
        super().create_accelerator_and_postprocess()
        if not self.args.fsdp or self.is_fsdp_enabled:
            return
        from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin

        state = self.accelerator.state
        state.distributed_type = DistributedType.FSDP
        state.fsdp_plugin = FullyShardedDataParallelPlugin(**self.args.fsdp_plugin_args)
        if state.mixed_precision != "no":
            state.fsdp_plugin.set_mixed_precision(state.mixed_precision)
        self.is_fsdp_enabled = True

    def whole_weights(self) -> dict | None:
        """All weights that are trained, on rank 0's CPU; every rank calls it. None: the model is not split."""
        if not self.is_fsdp_enabled:
            return None
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

        options = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=_has_adapter(self.model))
        return get_model_state_dict(self.model, options=options)


def _has_adapter(model) -> bool:
    return hasattr(model, "peft_config")
