"""Some of what the policy writes, with what it was worth, for people to read: samples.jsonl of the attempt.

Steps that come again after a resume stand in the newer attempt's file; in one file a step that is done again after a
roll-back stands twice, and the later line counts, as with metrics.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from .rundir import timestamp

LONGEST = 2000  # characters of a text
MOST_BYTES = 64 << 20  # of the file


class Samples:
    """Writes them, on rank 0."""

    def __init__(self, runtime, params: Mapping[str, Any]):
        self.runtime = runtime
        self.path = runtime.run.samples
        self.every: int = params["rlhf.samples_every"]
        self.count: int = params["rlhf.samples"]
        self._full = False

    def due(self, step: int, span: int = 1) -> bool:
        """Say whether answers written for this step are kept; span is how many steps learn from them."""
        if not self.every or self._full or not self.runtime.first:
            return False
        return step <= 1 or step // self.every > (step - max(span, 1)) // self.every

    def write(self, step: int, batch, rewards: list[float], parts: Mapping[str, list[float]]) -> None:
        """Keep a few answers of a batch (rewards.Rollout), evenly from all of it."""
        n = len(batch)
        chosen = sorted({i * n // self.count for i in range(self.count)}) if n else []
        lines = [
            {
                "step": step,
                "prompt": cut(shown(batch.prompt[i])),
                "completion": cut(batch.completion[i]),
                "reward": rewards[i],
                "rewards": {name: values[i] for name, values in parts.items()},
                "length": len(batch.completion_ids[i]),
                "time": timestamp(),
            }
            for i in chosen
        ]
        data = b"".join(json.dumps(line, ensure_ascii=False).encode("utf-8", "replace") + b"\n" for line in lines)
        try:
            fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
            try:
                if os.fstat(fd).st_size + len(data) > MOST_BYTES:
                    self._full = True
                    self.runtime.say(f"samples of answers are no longer kept: {self.path.name} has {MOST_BYTES >> 20} MiB")
                    return
                os.write(fd, data)
            finally:
                os.close(fd)
        except OSError as e:  # they are for people to look at; a full disk ends no run for them
            self._full = True
            self.runtime.say(f"samples of answers are no longer kept: {e}")


def shown(prompt: Any) -> str:
    """A prompt as people read it: messages by role, no marks of a template."""
    if isinstance(prompt, str):
        return prompt
    return "\n".join(f"{m['role']}: {m['content']}" for m in prompt)


def cut(text: str) -> str:
    """At most LONGEST characters."""
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
