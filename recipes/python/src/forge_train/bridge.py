"""The rank contract as a Hugging Face trainer sees it: one callback and one mixin.

Facts of transformers 5.20 to 5.23 that this rests on, each with a test that fails when it
changes: on_step_end, on_log and on_save are called on every rank; at a step they come in the
order on_step_end, on_log, save, on_save; trainer_state.json is the last file of a save;
control.should_save together with should_training_stop saves once and leaves train() normally.
"""

from __future__ import annotations

import math
import time
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

from . import checkpoint
from .runtime import Runtime

_REPORTED = (
    *("loss", "learning_rate", "grad_norm", "mean_token_accuracy", "num_tokens", "entropy", "epoch"),
    *("rewards/chosen", "rewards/rejected", "rewards/accuracies", "rewards/margins"),  # DPO
    *("logps/chosen", "logps/rejected", "logits/chosen", "logits/rejected"),
    *("accuracy", "margin", "min_reward", "mean_reward", "max_reward"),  # reward
)


class ContractCallback(TrainerCallback, ExportableState):
    """Stops, saves and reports on behalf of the runtime."""

    def __init__(self, runtime: Runtime, params: dict):
        self.runtime = runtime
        self.keep_last = params["checkpoint.keep_last"]
        self.trainer: ContractTrainer | None = None
        self._tokens = 0.0
        self._since = 0.0
        self._saving: float | None = None  # when the save under way began

    def state(self) -> dict:
        """What a checkpoint keeps for us: TRL counts tokens and forgets the count on resume."""
        return {"args": {}, "attributes": {"num_tokens": self.trainer.tokens_seen()}}

    def on_train_begin(self, args, state, control, **kwargs):
        """Tell the runtime where it stands; a stop that came during the start ends here."""
        run = self.runtime
        run.step, run.total_steps = state.global_step, state.max_steps
        saved = state.stateful_callbacks.get(type(self).__name__)
        if isinstance(saved, dict) and state.global_step > 0:
            self.trainer.set_tokens_seen(saved["attributes"]["num_tokens"])
        self._tokens, self._since = self.trainer.tokens_seen(), time.monotonic()
        run.before_first_step()

    def on_step_end(self, args, state, control, **kwargs):
        """The step boundary: all ranks agree whether to go on."""
        run = self.runtime
        run.step = state.global_step
        # transformers rewrites the whole history into every checkpoint; ours is metrics.jsonl
        del state.log_history[:-1]
        stop = run.boundary()
        if stop and state.global_step < state.max_steps:
            control.should_save = True
            control.should_training_stop = True
        if control.should_save:
            # else the loss averaged since the last report would be lost with the process
            control.should_log = True
            self._saving = time.monotonic()
        if not control.should_log:
            run.beat()
        return control

    def on_log(self, args, state, control, logs=None, **kwargs):
        """One line of metrics; the summary at the end of training has no loss and is none."""
        if not logs or "loss" not in logs:
            return
        values = {k: float(logs[k]) for k in _REPORTED if k in logs}
        now = time.monotonic()
        if "num_tokens" in values and now > self._since:
            values["tokens_per_second"] = (values["num_tokens"] - self._tokens) / (now - self._since)
            self._tokens, self._since = values["num_tokens"], now
        self.runtime.report(state.global_step, values)

    def on_save(self, args, state, control, **kwargs):
        """transformers has written the files; make them durable, then let older ones go."""
        run = self.runtime
        checkpoint.commit(run.run, run.gang, state.global_step, self._saving)
        self._saving = None
        run.saved_step = state.global_step
        if run.first:
            checkpoint.retain(run.run, self.keep_last)


class ContractTrainer:
    """Mixin for TRL trainers: watches for values that are not finite, counts tokens."""

    contract: ContractCallback

    def attach(self, contract: ContractCallback) -> None:
        """Connect the callback; it must be the last one, after the default flow has decided."""
        self.contract = contract
        contract.trainer = self
        self.add_callback(contract)

    def tokens_seen(self) -> float:
        """Tokens trained on so far, of all ranks."""
        return getattr(self, "_total_train_tokens", 0)

    def set_tokens_seen(self, tokens: float) -> None:
        """Go on counting from an earlier attempt."""
        if hasattr(self, "_total_train_tokens"):
            self._total_train_tokens = tokens

    def training_step(self, *args: Any, **kwargs: Any):
        """Note a loss that is not finite: this rank alone may see it, the boundary tells all."""
        loss = super().training_step(*args, **kwargs)
        if not math.isfinite(loss.item()):
            self.contract.runtime.not_finite = f"the loss is {loss.item()}"
        return loss

    def _get_grad_norm(self, model, grad_norm=None):
        # Finite loss, infinite gradients: the weights are lost at this very step, and a
        # checkpoint of it would poison every resume. With fp16 the scaler skips such steps.
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        if norm is not None and not self.args.fp16:
            value = norm.item() if hasattr(norm, "item") else norm
            if not math.isfinite(value):
                run = self.contract.runtime
                run.not_finite = run.not_finite or f"the norm of the gradients is {value}"
        return norm

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """None: TRL would write one per save, into the directory of checkpoints."""
