"""The ranks of an attempt: how they find each other, agree and gather.

A rank that stops, raises or exits alone leaves the others waiting in a collective until
they are killed. So everything that ends a run is first agreed on at a step boundary.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Mapping
from typing import Any

from .outcome import BadInput, NodeEnvironment, Rendezvous

# Long, since ranks on a cold network filesystem may take minutes over their imports; the
# shim's start_timeout is the limit that a user sets.
TIMEOUT = datetime.timedelta(minutes=30)

_LAUNCHER_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


class Gang:
    """Rank and world of this process. One rank needs no process group at all."""

    def __init__(self, rank: int = 0, world: int = 1, local_rank: int = 0, device: str = "cpu"):
        self.rank = rank
        self.world = world
        self.local_rank = local_rank
        self.device = device

    @classmethod
    def from_environment(cls, env: Mapping[str, str] = os.environ) -> Gang:
        """Read RANK, WORLD_SIZE and LOCAL_RANK as torchrun and the shim set them."""
        numbers = []
        for name, default in (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0")):
            value = env.get(name, default)
            if not value.isdecimal():
                raise BadInput(f"{name} is {value!r}: want a whole number")
            numbers.append(int(value))
        rank, world, local_rank = numbers
        if world < 1 or rank >= world:
            raise BadInput(f"RANK is {rank} and WORLD_SIZE {world}: want 0 <= RANK < WORLD_SIZE")
        return cls(rank, world, local_rank)

    def choose_device(self) -> str:
        """The device of this rank: "cpu" when no GPU was placed, else this rank's GPU.

        GPUs that were placed and cannot be used are the node's fault and end the attempt
        here: a node whose driver died must not go on training on its CPUs.
        """
        import torch

        placed = os.environ.get("CUDA_VISIBLE_DEVICES")
        if placed is None:
            self.device = "cuda" if torch.cuda.is_available() else "cpu"
        elif placed.strip() in ("", "-1"):
            self.device = "cpu"
        elif not torch.cuda.is_available():
            raise NodeEnvironment(
                f"CUDA_VISIBLE_DEVICES is {placed} and torch {torch.__version__} finds no usable GPU: "
                + (
                    "this torch was built without CUDA"
                    if torch.version.cuda is None
                    else "the driver or the GPU does not answer"
                )
            )
        else:
            self.device = "cuda"
        if self.device == "cuda":
            # one GPU visible to each rank, or all of the node's to every rank: both are common
            torch.cuda.set_device(self.local_rank % torch.cuda.device_count())
        return self.device

    def join(self) -> None:
        """Find the other ranks; raise Rendezvous when they cannot be found."""
        if self.world == 1:
            # accelerate would start a one-rank process group, on a port that nobody reserved
            for name in _LAUNCHER_VARIABLES:
                os.environ.pop(name, None)
            return
        import torch.distributed as dist

        if self.device == "cpu" and os.environ.get("NNODES", "1") == "1":
            # all ranks are here: keep gloo off interfaces that it would guess from the host's name
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        try:
            dist.init_process_group(
                "nccl" if self.device == "cuda" else "gloo",
                rank=self.rank,
                world_size=self.world,
                timeout=TIMEOUT,
            )
            self.agree(0)  # gloo and NCCL connect lazily; a gang that cannot talk should end here
        except (RuntimeError, ValueError) as e:
            where = f"{os.environ.get('MASTER_ADDR', '?')}:{os.environ.get('MASTER_PORT', '?')}"
            raise Rendezvous(f"rank {self.rank} of {self.world} could not join at {where}: {e}") from e

    def agree(self, value: int) -> int:
        """The highest value that any rank brought."""
        if self.world == 1:
            return value
        import torch
        import torch.distributed as dist

        tensor = torch.tensor([value], dtype=torch.int32, device=self.device)
        dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
        return int(tensor.item())

    def gather(self, value: Any) -> list[Any]:
        """What every rank brought, by rank; every rank gets it all."""
        if self.world == 1:
            return [value]
        import torch.distributed as dist

        values: list[Any] = [None] * self.world
        dist.all_gather_object(values, value)
        return values

    def leave(self) -> None:
        """Take the process group down after a good end; after a bad one it could hang."""
        if self.world == 1:
            return
        import torch.distributed as dist

        if dist.is_initialized():
            dist.destroy_process_group()
