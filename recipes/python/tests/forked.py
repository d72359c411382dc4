"""Ranks that are forked from a process with the libraries already imported.

A rank spends four of its five seconds importing torch and TRL. Where a test is not about
the start of a program, its ranks are forked from the test process: processes of their own,
with the contract's environment, signals and exit codes, that start in no time. Tests of the
start itself, and one of each kind beside the forked ones, exec a new interpreter.
"""

from __future__ import annotations

import os
import runpy
import signal
import subprocess
import sys
import time
import traceback
import warnings
from pathlib import Path

# Read at import by the libraries below; a forked rank inherits what was read.
os.environ |= {
    "CUDA_VISIBLE_DEVICES": "",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


class Forked:
    """The part of subprocess.Popen that tests use."""

    def __init__(self, program: tuple[str, ...], env: dict[str, str], out: Path, err: Path):
        import peft  # noqa: F401
        import torch  # noqa: F401
        from transformers import Trainer  # noqa: F401
        from trl import SFTTrainer  # noqa: F401

        self.returncode: int | None = None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # "fork with threads": there are none that matter
            self.pid = os.fork()
        if self.pid == 0:
            _become(program, env, out, err)

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float = 60) -> int:
        deadline = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("forked rank", timeout)
            time.sleep(0.01)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


def _become(program: tuple[str, ...], env: dict[str, str], out: Path, err: Path) -> None:
    """In the child: be the program. Never returns to the test."""
    code = 70
    try:
        os.setsid()
        for fd, path in ((0, os.devnull), (1, out), (2, err)):
            source = os.open(path, os.O_RDONLY if fd == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            os.dup2(source, fd)
        sys.stdout = open(1, "w", buffering=1, closefd=False)
        sys.stderr = open(2, "w", buffering=1, closefd=False)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        warnings.resetwarnings()
        os.environ.clear()
        os.environ.update(env)
        if program[0] == "-m":
            sys.argv = [program[1]]
            runpy.run_module(program[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = list(program)
            runpy.run_path(program[0], run_name="__main__")
        code = 0
    except SystemExit as e:
        code = e.code if isinstance(e.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
