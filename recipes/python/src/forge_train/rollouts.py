"""TRL's GRPO and RLOO under the rank contract: what they keep between two steps is saved, and their rewards are ours.

They write answers once for several steps (rlhf.num_iterations times the passes of a step), keep them in memory, and forget
them when they are started again: a run that resumes would learn from other answers than the one that was interrupted. So a
checkpoint has them, in rollouts_R.pt of each rank R, while they are still learnt from; at the end of such a round it says
that there are none.

Facts of TRL 1.14 to 1.16 that this rests on, each with a test that fails when it changes: _step counts passes and
_buffered_inputs holds what was written, split by pass; _calculate_rewards gives the rewards of all ranks' answers, one
column for each function; RepeatSampler draws one permutation per epoch from a generator of its own, which nothing saves.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from . import prompts
from .rewards import Rewards, Rollout
from .samples import Samples


class ByEpoch:
    """TRL's sampler, told which epoch it is: it has drawn one permutation for each before.

    Told by the step that training is at: set_epoch does not come through the layers that skip batches on several ranks.
    """

    def __init__(self, sampler, epoch: Callable[[], int]):
        self.sampler, self.epoch = sampler, epoch

    def __iter__(self):
        import torch

        inner = self.sampler
        if inner.shuffle and inner.seed is not None:
            inner.generator.manual_seed(inner.seed)
            for _ in range(self.epoch()):
                torch.randperm(inner.num_samples, generator=inner.generator)
        return iter(inner)

    def __len__(self) -> int:
        return len(self.sampler)


class Rollouts:
    """Mixin for TRL's trainers that write answers."""

    rewards: Rewards
    samples: Samples

    def tokens_seen(self) -> float:
        """Tokens of prompts and answers; transformers keeps this count in its state."""
        return self.state.num_input_tokens_seen

    def skip_step(self) -> None:
        """A pass that is left out counts; answers of an earlier round are not learnt from in its place."""
        if self._step % self._round() == 0:
            self._buffered_inputs = None
        self._step += 1

    def _round(self) -> int:
        """Passes that learn from the same answers."""
        return self.args.steps_per_generation * self.args.num_iterations

    def _get_train_sampler(self, *args, **kwargs):
        sampler = super()._get_train_sampler(*args, **kwargs)
        rounds = max(1, sampler.num_samples // sampler.batch_size)  # of an epoch; prompts that fill none are left out
        steps = rounds * self._round() // self.args.gradient_accumulation_steps
        return ByEpoch(sampler, lambda: self.state.global_step // steps)

    def _calculate_rewards(self, inputs, prompts_, completions, completion_ids_list):
        import torch
        from accelerate.utils import gather

        batch = self._rollout(inputs, completion_ids_list)
        parts = self.rewards.parts(batch)
        step, span = self.state.global_step + 1, self._round() // self.args.gradient_accumulation_steps
        if self.samples.due(step, span):
            self.samples.write(step, batch, self.rewards.total(parts), parts)
        columns = [parts[name] for name in self.rewards.names]
        return gather(torch.tensor(columns, dtype=torch.float32, device=self.accelerator.device).T.contiguous())

    def _rollout(self, rows: list[dict], completion_ids: list) -> Rollout:
        tokenizer = self.processing_class
        ids = [list(map(int, c)) for c in completion_ids]
        asked = [row["prompt"] for row in rows]
        return Rollout(
            prompt=asked,
            completion=tokenizer.batch_decode(ids, skip_special_tokens=True),
            prompt_ids=[prompts.ids(tokenizer, p) for p in asked],
            completion_ids=ids,
            row=[json.loads(row["row"]) for row in rows],
            place=[row["place"] for row in rows],
        )

    def log(self, logs, start_time=None):
        """Without step_time: time/compute says it, and without what the clock adds."""
        self._metrics["train"].pop("step_time", None)
        super().log(logs, start_time)

    def _save_rng_state(self, output_dir):
        import torch

        super()._save_rng_state(output_dir)
        between = self._step % self._round() != 0
        state = {"step": self._step, "answers": self._buffered_inputs if between else None}
        torch.save(state, Path(output_dir) / self._file())

    def _load_optimizer_and_scheduler(self, checkpoint):
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            self._restore(Path(checkpoint))

    def _restore(self, checkpoint: Path) -> None:
        import torch
        from accelerate.utils import send_to_device

        file = checkpoint / self._file()
        if file.is_file():
            state = torch.load(file, map_location="cpu", weights_only=True)
            self._step, self._buffered_inputs = state["step"], send_to_device(state["answers"], self.accelerator.device)
        else:  # of fewer ranks than there are now: this one has none of its own, and writes new ones
            done = json.loads((checkpoint / "trainer_state.json").read_bytes())["global_step"]
            self._step, self._buffered_inputs = done * self.args.gradient_accumulation_steps, None

    def _file(self) -> str:
        return f"rollouts_{self.args.process_index}.pt"
