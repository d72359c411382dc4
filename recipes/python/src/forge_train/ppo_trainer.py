"""The trainer of PPO: an update is a step of transformers' loop, so checkpoints, schedule and callbacks are as for any recipe.

The last mini batch of an update leaves its gradients to that loop, which clips them and steps; the ones before are stepped here. So the
optimizer steps as often as PPO wants, and the learning rate moves once per update.
"""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path

import numpy as np
import torch
import transformers

from . import prompts, rollout, update, value
from .bridge import ContractTrainer
from .rewards import Rollout
from .rundir import write_json
from .samples import Samples
from .sharded import Sharded

STATE = "ppo.json"  # in a checkpoint: what only PPO counts
RANKS_APART = 100_003  # between the seeds of two ranks, which must not draw the same answers


def asked(job, tokenizer) -> list[dict]:
    """The rows of the dataset with their prompts as tokens; rlhf.build has looked at their lengths."""
    return [row | {"ids": prompts.ids(tokenizer, row["prompt"])} for row in job.data.to_dataset()]


class Updates(transformers.Trainer):
    """transformers' trainer with an update of PPO for a step."""

    def __init__(self, job, model, arguments, rows, tokenizer, rewards, reference):
        self.job, self.rewards, self.reference = job, rewards, reference
        self.episode, self._total_train_tokens = 0, 0  # of all ranks, since the run began
        self._told: list[dict] = []  # metrics of the updates since the last report
        self._since = (time.monotonic(), 0)
        params = job.params
        self._settings = update.Settings.of(params)
        self._writer = rollout.Writer(params, tokenizer, model.policy, job.data.conversational, job.runtime.beat)
        self._samples = Samples(job.runtime, params)
        super().__init__(model, arguments, data_collator=list, train_dataset=rows, processing_class=tokenizer)
        if reference is not None:
            reference.requires_grad_(False).eval().to(self.args.device)

    def result(self):
        """What of the model is the run's output; of the value model nothing is left."""
        return self.accelerator.unwrap_model(self.model).policy

    def training_step(self, model, inputs, num_items_in_batch=None):
        """One update: answers, what they are worth, and what is learnt from them. Returns the mean loss."""
        if self.state.global_step == 0:
            self._seed()
        drawn, batch, reference, values = self._write(inputs)
        scores, told = self._score(batch, drawn)
        earned = update.earned(self._settings, drawn.logprobs, reference, values, scores, drawn.lengths)
        told |= _objective(drawn, earned, scores)
        told |= self._learn(model, drawn, values, earned)
        self._count(drawn, told)
        self._told.append(_mean(self.job.runtime.gang.gather(told)))
        return torch.tensor(told["loss"], device=self.args.device)

    def _seed(self) -> None:
        """Ranks draw different answers; transformers has seeded them alike."""
        seed = self.args.seed + RANKS_APART * self.job.runtime.gang.rank
        torch.manual_seed(seed)
        np.random.seed(seed % (1 << 32))

    def _write(self, rows: list[dict]):
        both, device = self.accelerator.unwrap_model(self.model), self.args.device
        both.eval()
        with torch.no_grad(), self.accelerator.autocast():
            drawn = self._writer.write(both.policy, [r["ids"] for r in rows], device)
            reference, values = rollout.judged(
                drawn, self._refer, both.value, self._writer.temperature, self.job.params["train.batch_size"], self.job.runtime.beat
            )
        answers = [drawn.completion(i) for i in range(len(rows))]
        batch = Rollout(
            prompt=[r["prompt"] for r in rows],
            completion=self.processing_class.batch_decode(answers, skip_special_tokens=True),
            prompt_ids=[r["ids"] for r in rows],
            completion_ids=answers,
            row=[json.loads(r["row"]) for r in rows],
            place=[r["place"] for r in rows],
        )
        return drawn, batch, reference, values

    def _refer(self, ids, mask, answer: int):
        """The logits of the model that training began from."""
        if self.reference is not None:
            return value.logits(self.reference, ids, mask, answer)
        policy = self.accelerator.unwrap_model(self.model).policy
        with policy.disable_adapter():
            return value.logits(policy, ids, mask, answer)

    def _score(self, batch: Rollout, drawn: rollout.Drawn):
        parts = self.rewards.parts(batch)
        total = self.rewards.total(parts)
        step = self.state.global_step + 1
        if self._samples.due(step):
            self._samples.write(step, batch, total, parts)
        told = {f"rewards/{name}/mean": float(np.mean(values)) for name, values in parts.items()}
        told |= {f"rewards/{name}/std": float(np.std(values)) for name, values in parts.items()}
        scores = torch.tensor(total, dtype=torch.float32, device=drawn.ids.device)
        scores[~drawn.ended] -= self.job.params["ppo.missing_eos_penalty"]
        return scores, told

    def _learn(self, model, drawn: rollout.Drawn, values, earned: update.Earned) -> dict:
        """All passes over the answers; the gradients of the last mini batch are left to the caller's step."""
        p = self.job.params
        size, rows = p["train.batch_size"], p["train.batch_size"] * p["train.gradient_accumulation_steps"]
        model.train()
        told = []
        for n in range(p["ppo.epochs"]):
            order = np.random.permutation(len(drawn.ids))
            for start in range(0, len(order), rows):
                if told:
                    self._step(model)
                mini = torch.as_tensor(order[start : start + rows], device=drawn.ids.device)
                told += self._mini_batch(model, mini.split(size), drawn, values, earned)
        return _mean(told)

    def _mini_batch(self, model, parts, drawn: rollout.Drawn, values, earned: update.Earned) -> list[dict]:
        told = []
        for i, rows in enumerate(parts):
            last = i == len(parts) - 1
            with contextlib.nullcontext() if last else self.accelerator.no_sync(model):
                with self.compute_loss_context_manager():
                    logits, foreseen = model(drawn.ids[rows], drawn.mask[rows], drawn.width)
                loss, of = update.loss(
                    self._settings,
                    logits / self._writer.temperature,
                    foreseen,
                    drawn.answers[rows],
                    drawn.logprobs[rows],
                    values[rows],
                    (earned.advantages[rows], earned.returns[rows]),
                    drawn.lengths[rows],
                )
                self.accelerator.backward(loss / len(parts))
            told.append(of)
            self.job.runtime.beat()
        return told

    def _step(self, model) -> None:
        """A step of the optimizer within an update."""
        norm = self._clip_grad_norm(model) if self.args.max_grad_norm > 0 else None
        self._get_grad_norm(model, grad_norm=norm)  # which notes one that is not finite
        self.optimizer.step()
        model.zero_grad()

    def _count(self, drawn: rollout.Drawn, told: dict) -> None:
        world = self.job.runtime.gang.world
        self.episode += len(drawn.ids) * world
        self._total_train_tokens += sum(self.job.runtime.gang.gather(int(drawn.mask.sum())))

    def log(self, logs, start_time=None):
        """transformers' own line of a step, with what PPO has to say of the updates since the last."""
        if "loss" in logs and self._told:
            logs |= {k: v for k, v in _mean(self._told).items() if k != "loss"}
            self._told = []
            logs["episode"], logs["num_tokens"] = self.episode, self._total_train_tokens
            (since, before), self._since = self._since, (time.monotonic(), self.episode)
            logs["eps"] = (self.episode - before) / max(self._since[0] - since, 1e-9)
        super().log(logs, start_time)
        self.state.log_history[-1].pop("eps", None)  # no two runs share it, and checkpoints are compared by their bytes

    def _save(self, output_dir=None, state_dict=None):
        """The policy as it is saved for use, the value model beside it, and the count of answers."""
        both, self.model = self.model, self.result()
        try:
            super()._save(output_dir)
        finally:
            self.model = both
        if self.args.should_save:
            directory = Path(output_dir)
            value.save(self.accelerator.unwrap_model(both).value, directory)
            write_json(directory / STATE, {"episode": self.episode})

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None):
        """All that can be restored; what cannot be is said, and begins anew."""
        directory, both = Path(resume_from_checkpoint), self.accelerator.unwrap_model(self.model)
        super()._load_from_checkpoint(resume_from_checkpoint, both.policy)
        lacking = []
        if not value.restore(both.value, directory):
            lacking.append("value model")
        try:
            self.episode = int(json.loads((directory / STATE).read_bytes())["episode"])
        except (OSError, ValueError, KeyError):
            lacking.append("count of answers")
        gang = self.job.runtime.gang
        random = f"rng_state_{gang.rank}.pth" if gang.world > 1 else "rng_state.pth"
        for name, what in (("optimizer.pt", "optimizer"), ("scheduler.pt", "learning-rate schedule"), (random, "random state")):
            if not (directory / name).is_file():
                lacking.append(what)
        self._since = (time.monotonic(), self.episode)
        if lacking:
            run = self.job.runtime
            run.notes |= {"resume": "partial", "not_restored": lacking}
            run.say(f"resume: partial: {directory.name} has no {' and no '.join(lacking)} that could be restored; these begin anew")


class Trainer(ContractTrainer, Sharded, Updates):
    """PPO under the rank contract."""


def _objective(drawn: rollout.Drawn, earned: update.Earned, scores) -> dict:
    """What the answers are worth, before anything is learnt from them."""
    kl, penalty = earned.kl.sum(1).mean().item(), earned.penalty.sum(1).mean().item()
    lengths = drawn.lengths.float()
    return {
        "objective/kl": kl,
        "objective/entropy": -drawn.logprobs.sum(1).mean().item(),
        "objective/scores": scores.mean().item(),
        "objective/non_score_reward": penalty,
        "objective/rlhf_reward": penalty + scores.mean().item(),
        "val/num_eos_tokens": float(drawn.ended.sum().item()),
        "completions/mean_length": lengths.mean().item(),
        "completions/min_length": lengths.min().item(),
        "completions/max_length": lengths.max().item(),
    }


def _mean(of: list[dict]) -> dict:
    """Of each value; but of the shortest answers the shortest, and of the longest the longest."""
    whole = {name: [each[name] for each in of] for name in of[0]}
    by = {"min_length": min, "max_length": max}
    return {name: by.get(name.rpartition("/")[2], lambda v: sum(v) / len(v))(values) for name, values in whole.items()}
