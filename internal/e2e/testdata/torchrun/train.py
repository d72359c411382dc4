"""A user's own program: torch alone, started by torchrun, and of the run contract only what it takes to resume."""

import hashlib
import json
import os
import pathlib
import sys
import time

import torch.distributed as dist
import torch

STEPS, EVERY, STUCK = 20, 5, 12


def save(step: int, total: float) -> None:
    """A checkpoint is durable by its manifest, which is written last."""
    target = pathlib.Path(os.environ["FORGE_CHECKPOINT_DIR"]) / f"checkpoint-{step}"
    target.mkdir()
    state = json.dumps({"step": step, "total": total}).encode()
    manifest = {
        "layout": 1, "run_id": os.environ["FORGE_RUN_ID"], "attempt": int(os.environ["FORGE_ATTEMPT"]), "step": step, "world_size": dist.get_world_size(),
        "saved_at": "2026-01-01T00:00:00Z", "files": [{"path": "state.json", "size": len(state), "sha256": hashlib.sha256(state).hexdigest(), "rank": 0}],
    }
    for name, data in ("state.json", state), ("forge_manifest.json", json.dumps(manifest).encode()):
        with open(target / f".{name}", "wb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        os.rename(target / f".{name}", target / name)


dist.init_process_group("gloo")
rank, world = dist.get_rank(), dist.get_world_size()
factor = float(pathlib.Path("factor.txt").read_text())  # of the working directory
first, total = 1, 0.0
if os.environ["FORGE_RESUME_FROM"]:
    state = json.loads((pathlib.Path(os.environ["FORGE_RESUME_FROM"]) / "state.json").read_text())
    first, total = state["step"] + 1, state["total"]
    sys.stdout.write(f"resumed from {state['step']}\n")  # one write each: print's pieces mix with those of the other process
for step in range(first, STEPS + 1):
    if step == STUCK and os.environ["FORGE_ATTEMPT"] == "1" and rank == world - 1:
        (pathlib.Path(os.environ["FORGE_ATTEMPT_DIR"]) / "victim").write_text(f"{os.getpid()}\n")
        time.sleep(600)
    part = torch.tensor([float((rank + 1) * step)], dtype=torch.float64)
    dist.all_reduce(part)
    total = total * factor + part.item()
    if step % EVERY == 0:
        if rank == 0:
            save(step, total)
        dist.barrier()
sys.stdout.write(f"seat {rank} of {world} node {os.environ['NODE_RANK']} local {os.environ['LOCAL_RANK']}\n")
if rank == 0:
    (pathlib.Path(os.environ["FORGE_OUTPUT_DIR"]) / "total.json").write_text(json.dumps(total))
dist.destroy_process_group()
