"""Starts ranks as the shim would: one process each, in the contract's environment alone."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from forked import Forked

SRC = Path(__file__).resolve().parents[1] / "src"
RUN_ID = "01JTEST00000000000000000000"
CLOCK = re.compile(r"time/|tokens_per_second$|eps$|gpu/")  # metrics that no two runs share


class Attempt:
    """One attempt of a run below a run directory made here."""

    def __init__(self, run_dir: Path, number: int, config: dict, world: int = 1, resume: Path | None = None):
        self.run_dir, self.number, self.world = run_dir, number, world
        self.dir = run_dir / "attempts" / f"{number:04d}"
        self.checkpoints, self.output = self.dir / "checkpoints", self.dir / "output"
        for d in (self.checkpoints, self.output):
            d.mkdir(parents=True)
        (run_dir / "fence").write_text(f"{number}\n")
        (self.dir / "config.json").write_text(json.dumps(config | {"attempt": number}))
        self.resume = resume
        self.program = ("-m", f"forge_train.{config['recipe']}")
        self.ranks: list[subprocess.Popen | Forked] = []
        self.extra: dict[str, str] = {}

    def environment(self, rank: int, port: int) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.run_dir),
            "LANG": "C.UTF-8",
            "TMPDIR": str(self.run_dir),
            "PYTHONPATH": str(SRC),
            "PYTHONUNBUFFERED": "1",
            "OMP_NUM_THREADS": "1",
            "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
            "CUDA_VISIBLE_DEVICES": "",
            "HF_HUB_OFFLINE": "1",
            "HF_DATASETS_OFFLINE": "1",
            "TRANSFORMERS_OFFLINE": "1",
            "FORGE_RUN_ID": RUN_ID,
            "FORGE_RUN_NUMBER": "1",
            "FORGE_ATTEMPT": str(self.number),
            "FORGE_RUN_DIR": str(self.run_dir),
            "FORGE_ATTEMPT_DIR": str(self.dir),
            "FORGE_CONFIG": str(self.dir / "config.json"),
            "FORGE_RESUME_FROM": str(self.resume or ""),
            "FORGE_METRICS": str(self.dir / "metrics.jsonl"),
            "FORGE_HEARTBEAT": str(self.dir / "heartbeat"),
            "FORGE_STATUS": str(self.dir / "status.json"),
            "FORGE_CHECKPOINT_DIR": str(self.checkpoints),
            "FORGE_OUTPUT_DIR": str(self.output),
            "FORGE_STOP_FILE": str(self.dir / "stop"),
            "FORGE_FENCE_FILE": str(self.run_dir / "fence"),
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(self.world),
            "LOCAL_WORLD_SIZE": str(self.world),
            "NODE_RANK": "0",
            "NNODES": "1",
            "GPUS_PER_NODE": str(self.world),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            **self.extra,
        }

    def start(self, program: tuple[str, ...] | None = None, new_interpreter: bool = False) -> Attempt:
        program = program or self.program
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        for rank in range(self.world):
            paths = self.dir / f"stdout.{rank}", self.dir / f"stderr.{rank}"
            if not new_interpreter:
                self.ranks.append(Forked(program, self.environment(rank, port), *paths))
                continue
            with open(paths[0], "wb") as out, open(paths[1], "wb") as err:
                self.ranks.append(
                    subprocess.Popen(
                        [sys.executable, *program],
                        stdin=subprocess.DEVNULL,
                        stdout=out,
                        stderr=err,
                        env=self.environment(rank, port),
                        start_new_session=True,
                    )
                )
        return self

    def wait(self, seconds: float = 120) -> list[int]:
        """Exit codes of all ranks; what is still there at the deadline is killed and fails the test."""
        deadline = time.monotonic() + seconds
        try:
            return [r.wait(max(0.1, deadline - time.monotonic())) for r in self.ranks]
        except subprocess.TimeoutExpired as e:
            raise AssertionError(f"a rank did not end within {seconds} s\n{self.logs()}") from e
        finally:
            self.kill()

    def kill(self) -> None:
        for r in self.ranks:
            if r.poll() is None:
                r.send_signal(signal.SIGKILL)
                r.wait()

    def until_step(self, step: int, seconds: float = 90) -> None:
        """Wait until a metrics line of that step is there."""
        self.until(lambda: any(m["step"] >= step for m in self.metrics()), f"step {step}", seconds)

    def until(self, ready, what: str, seconds: float = 90) -> None:
        deadline = time.monotonic() + seconds
        while not ready():
            ended = [r.poll() for r in self.ranks]
            if time.monotonic() > deadline or None not in ended:
                self.kill()
                raise AssertionError(f"never saw {what}; exits {ended}\n{self.logs()}")
            time.sleep(0.02)

    def metrics(self) -> list[dict]:
        path = self.dir / "metrics.jsonl"
        text = path.read_text() if path.exists() else ""
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def status(self) -> dict:
        return json.loads((self.dir / "status.json").read_text())

    def manifests(self) -> dict[int, dict]:
        """Manifests by the step in the directory's name."""
        return {
            int(p.parent.name.split("-")[1]): json.loads(p.read_text())
            for p in self.checkpoints.glob("checkpoint-*/forge_manifest.json")
        }

    def newest(self) -> Path:
        return self.checkpoints / f"checkpoint-{max(self.manifests())}"

    def logs(self) -> str:
        return "\n".join(
            f"--- {p.name}\n{p.read_text(errors='replace')[-3000:]}" for p in sorted(self.dir.glob("std*.?"))
        )


# What must not differ by a byte between an interrupted run and an undisturbed one. Not among them, because they
# hold names of this attempt or the order of a set: manifest, training_args.bin, adapter_config.json, training.json.
EXACT = re.compile(
    r"^((adapter_)?model.*\.safetensors|value\.safetensors|ppo\.json|optimizer\.pt|scheduler\.pt|rng_state.*\.pth|rollouts_.*\.pt"
    r"|trainer_state\.json|.*\.distcp)$"
)


def digests(a: Attempt) -> dict[str, str]:
    """SHA-256 of the last checkpoint's files and of the output's."""
    return {
        p.relative_to(a.dir).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for root in (a.newest(), a.output)
        for p in sorted(root.rglob("*"))
        if EXACT.match(p.name)
    }


def curve(*attempts: Attempt) -> dict[int, dict[str, float]]:
    """Metrics by step, the newest attempt's line of each; without what depends on the clock."""
    steps = {}
    for a in attempts:
        for m in a.metrics():
            steps[m["step"]] = {k: v for k, v in m["values"].items() if not CLOCK.match(k)}
    return steps
