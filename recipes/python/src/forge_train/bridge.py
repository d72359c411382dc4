"""The rank contract as a Hugging Face trainer sees it: one callback and one mixin.

Facts of transformers 5.20 to 5.23 that this rests on, each with a test that fails when it
changes: on_step_end, on_log and on_save are called on every rank; at a step they come in the
order on_step_end, on_log, save, on_save; trainer_state.json is the last file of a save;
control.should_save together with should_training_stop saves once and leaves train() normally;
get_batch_samples fetches the batches of a step.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Mapping
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

from . import checkpoint, disk, keep, mishap
from .metrics import Own, Split, gpu_memory
from .outcome import DiskFull, NotANumber, NothingLeft
from .runtime import SAVE, Runtime
from .tables import CHECKPOINT, REPORT


class ContractCallback(TrainerCallback, ExportableState):
    """Stops, saves and reports on behalf of the runtime."""

    def __init__(self, runtime: Runtime, params: Mapping[str, Any]):
        self.runtime = runtime
        self.params = {p.name: p.default for p in (*CHECKPOINT, *REPORT)} | dict(params)
        self.trainer: ContractTrainer | None = None
        self.split = Split()
        self.passes: list[Any] = []  # of this rank in the step under way: the loss of each pass, where it was computed
        self.norms: list[Any] = []  # and the norms of its gradients
        self.save_error: OSError | None = None  # of this rank, in the save under way
        self._rules = keep.Rules.of(self.params)
        self._watch = mishap.Watch(self.params["metrics.spike_factor"])
        self._own = Own(runtime.say)
        self._tokens = 0.0
        self._since = 0.0
        self._saving: float | None = None  # when the save under way began
        self._size = 0  # bytes of the last checkpoint
        self._failed_saves = 0
        self._learned = [0, 0]  # steps since the last report: all, and those whose batch was skipped
        self._losses = [0.0, 0]  # their sum and number, since the last save

    def state(self) -> dict:
        """What a checkpoint keeps for us: TRL counts tokens and forgets the count on resume."""
        attributes = {"num_tokens": self.trainer.tokens_seen(), "skipped": self.runtime.skipped}
        return {"args": {}, "attributes": attributes | {"losses": list(self._watch.losses)}}

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        """Tell the runtime where it stands; a stop that came during the start ends here."""
        run = self.runtime
        run.step, run.total_steps = state.global_step, state.max_steps
        saved = state.stateful_callbacks.get(type(self).__name__)
        if isinstance(saved, dict) and state.global_step > 0:
            attributes = saved["attributes"]
            self.trainer.set_tokens_seen(attributes["num_tokens"])
            run.skipped = sorted({*run.skipped, *attributes.get("skipped", ())})
            self._watch = mishap.Watch(self._watch.factor, attributes.get("losses"))
        if run.skipped:
            run.notes["skipped_steps"] = run.skipped
        self._tokens, self._since = self.trainer.tokens_seen(), time.monotonic()
        run.before_first_step()
        if state.global_step >= state.max_steps:  # transformers looks only after a step, and would do one more
            raise NothingLeft
        if run.first:
            self._other_world()
            run.trackers.begin(state.global_step)
            self._size = self._expected(model)
        if lack := self._lack("a checkpoint of this run"):
            if self.params["checkpoint.on_full_disk"] == "stop":
                raise DiskFull(f"{lack}; not started (checkpoint.on_full_disk)")
            run.say(f"{lack}; training begins all the same (checkpoint.on_full_disk)")
        self.split.start()

    def _other_world(self) -> None:
        run = self.runtime
        was = keep.read(run.run.resume_from).get("world_size") if run.run.resume_from else None
        if isinstance(was, int) and was != run.gang.world:
            run.say(
                f"the checkpoint is of {was} ranks and these are {run.gang.world}: from here on each sees other batches, "
                "and a rank that is new has no random state of its own"
            )

    def _expected(self, model) -> int:
        """Bytes of a checkpoint: of the last one, else what weights and two moments of AdamW will take."""
        if self.runtime.run.resume_from and (size := keep.size(self.runtime.run.resume_from)):
            return size
        trained = (p for p in (model.parameters() if model is not None else ()) if p.requires_grad)
        return sum(p.numel() * (p.element_size() + 8) for p in trained)

    def on_step_end(self, args, state, control, **kwargs):
        """The step boundary: all ranks agree whether to go on."""
        run = self.runtime
        run.step = state.global_step
        self.split.step()
        loss = self._read()
        # transformers rewrites the whole history into every checkpoint; ours is metrics.jsonl
        del state.log_history[:-1]
        self._watch_loss(loss)
        try:
            stop = run.boundary()
        except NotANumber as e:
            raise mishap.answer(e, run.step, self.params, run.skipped) from e
        if stop and state.global_step < state.max_steps:
            control.should_save = True
            control.should_training_stop = True
            run.save_begins("asked to save and stop")
        if control.should_save and (lack := self._lack(f"the checkpoint of step {run.step}")):
            control.should_save = False
            self._not_saved(DiskFull(lack))
        if control.should_save:
            # else the loss averaged since the last report would be lost with the process
            control.should_log = True
            self._saving = time.monotonic()
        if not control.should_log:
            run.beat()
        return control

    def _read(self) -> float:
        """The loss of the step on this rank; losses and gradients that are not finite are noted, for the boundary to tell all.

        Once a step, when all of it has been asked of the GPU: to read a number there is to wait for it, and who waits for the loss
        before the optimizer is asked for leaves the GPU idle in between, which was a tenth of a LoRA step on an H100.
        """
        run, total = self.runtime, 0.0
        for loss in self.passes:
            value = loss.item()
            total += value
            if not math.isfinite(value):
                run.not_finite = f"the loss is {value}"
        for norm in self.norms:
            value = norm.item() if hasattr(norm, "item") else norm
            if not math.isfinite(value):
                run.not_finite = run.not_finite or f"the norm of the gradients is {value}"
        self.passes, self.norms = [], []
        return total

    def _watch_loss(self, loss: float) -> None:
        """Look for a spike, by the loss of all ranks; skipped batches have none."""
        run = self.runtime
        self._learned[0] += 1
        if run.step in run.skipped:
            self._learned[1] += 1
        elif self._watch.factor > 1:
            losses = run.gang.gather(loss)
            mean = sum(losses) / len(losses)
            said = self._watch.look(mean) if math.isfinite(mean) else ""
            if said and self.params["metrics.on_spike"] == "go_on":
                self._watch.losses.append(mean)
                run.say(f"step {run.step}: {said}; going on (metrics.on_spike)")
            else:
                run.spiked = said

    def on_log(self, args, state, control, logs=None, **kwargs):
        """One line of metrics; the summary at the end of training has no loss and is none."""
        if not logs or "loss" not in logs:
            return
        run = self.runtime
        values = self._own.of(logs) | self.split.report()
        steps, skipped = self._learned
        self._learned = [0, 0]
        if skipped and skipped >= steps:
            for name in ("loss", "grad_norm"):
                values.pop(name, None)
        elif "loss" in values:
            # the mean is over the steps that were learned from; transformers counts the others as zero
            values["loss"] *= steps / (steps - skipped) if skipped else 1
            self._losses = [self._losses[0] + values["loss"] * (steps - skipped), self._losses[1] + steps - skipped]
        now = time.monotonic()
        if "num_tokens" in values and now > self._since:
            values["tokens_per_second"] = (values["num_tokens"] - self._tokens) / (now - self._since)
            self._tokens, self._since = values["num_tokens"], now
        if run.gang.device == "cuda":
            values |= gpu_memory()
        if run.skipped:
            values["skipped_batches"] = sum(s <= state.global_step for s in run.skipped)
        if self._failed_saves:
            values["failed_saves"] = self._failed_saves
        run.report(state.global_step, values)

    def on_save(self, args, state, control, **kwargs):
        """transformers has written the files; make them durable, then let older ones go."""
        run = self.runtime
        more = dict(run.about)
        total, count = self._losses
        if count and math.isfinite(total):
            more["loss"] = total / count
        if run.skipped:
            more["skipped_steps"] = run.skipped
        failed, self.save_error = self.save_error, None
        try:
            asked = run.asked if run.agreed == SAVE else None
            manifest = checkpoint.commit(run.run, run.gang, state.global_step, self._saving, asked, more, failed)
        except DiskFull as e:
            self._not_saved(e)
            return
        finally:
            if self._saving is not None:
                self.split.spend("save", self._saving)
            self._saving = None
        self._losses = [0.0, 0]
        run.saved_step = state.global_step
        if run.first:
            self._size = sum(f["size"] for f in manifest["files"])
            if "signal_seconds" in manifest:
                run.notes["signal_seconds"] = manifest["signal_seconds"]
            try:
                keep.retain(run.run, self._rules)
            except OSError as e:  # on this rank alone; the next save tries again
                run.say(f"older checkpoints could not be removed: {e}")

    def _lack(self, what: str) -> str:
        """A sentence, on every rank, when the disk has no room for a checkpoint: it is not even begun."""
        run = self.runtime
        lack = disk.lack(run.run.checkpoints, self._size) if run.first and self._size else ""
        lack = run.gang.gather(lack)[0]
        return lack and f"there is no room for {what}: {lack}"

    def _not_saved(self, error: DiskFull) -> None:
        """The disk is full: say so, and go on or end as the parameters say."""
        run = self.runtime
        self._failed_saves += 1
        run.notes["failed_saves"] = self._failed_saves
        older = run.saved_step or "none of this attempt"
        words = f"{error}; older checkpoints are whole (newest: {older})"
        if run.agreed == SAVE:
            raise DiskFull(f"{words}; the save that was asked for failed") from error
        if self.params["checkpoint.on_full_disk"] == "stop":
            raise DiskFull(f"{words}; stopping (checkpoint.on_full_disk)") from error
        run.say(f"{words}; training goes on (checkpoint.on_full_disk)")


def _noted(method):
    """A part of a save that cannot be written is noted, and every rank learns of it when the save is judged.

    Part by part, since a rank that left a save early would be missed in the collectives of the next part.
    """

    @functools.wraps(method)
    def part(self, *args, **kwargs):
        try:
            return method(self, *args, **kwargs)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as e:  # torch.distributed.checkpoint's is no Exception
            contract = self.contract
            error = disk.of_write(e, contract.runtime.run.checkpoints)
            if error is None:
                raise
            contract.save_error = contract.save_error or error
        return None

    return part


class ContractTrainer:
    """Mixin for TRL trainers: watches for values that are not finite, counts tokens, survives a full disk."""

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

    def get_batch_samples(self, *args: Any, **kwargs: Any):
        """The batches of one step; how long they were waited for."""
        since = time.monotonic()
        try:
            return super().get_batch_samples(*args, **kwargs)
        finally:
            self.contract.split.spend("data", since)

    def training_step(self, *args: Any, **kwargs: Any):
        """Keep the loss for the boundary, without waiting for it."""
        if self._skipping():
            # no gradients at all: the optimizer leaves weights and moments as they are
            import torch

            self.skip_step()
            return torch.tensor(0.0, device=self.args.device)
        loss = super().training_step(*args, **kwargs)
        self.contract.passes.append(loss.detach())
        return loss

    def skip_step(self) -> None:
        """A pass is left out; a trainer that counts them itself counts it here."""

    def _skipping(self) -> bool:
        return self.state.global_step + 1 in self.contract.runtime.skipped

    def _get_grad_norm(self, model, grad_norm=None):
        # Finite loss, infinite gradients: the weights are lost at this very step, and a
        # checkpoint of it would poison every resume. With fp16 the scaler skips such steps.
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        if norm is not None and not self.args.fp16 and not self._skipping():
            self.contract.norms.append(norm.detach() if hasattr(norm, "detach") else norm)
        return norm

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model=None) -> None:
        """Load weights in the number format that they were trained in.

        PEFT widens an adapter in half precision, as TRL makes it over a base in 4 bits, to fp32 when it loads one:
        the attempt that goes on would compute otherwise than the one that was interrupted.
        """
        into = self.model if model is None else model
        formats = {name: p.dtype for name, p in into.named_parameters() if p.requires_grad}
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        for name, p in into.named_parameters():
            if name in formats and p.dtype != formats[name]:
                p.data = p.data.to(formats[name])

    @_noted
    def _save(self, *args: Any, **kwargs: Any):
        return super()._save(*args, **kwargs)

    @_noted
    def _save_optimizer_and_scheduler(self, *args: Any, **kwargs: Any):
        return super()._save_optimizer_and_scheduler(*args, **kwargs)

    @_noted
    def _save_rng_state(self, *args: Any, **kwargs: Any):
        return super()._save_rng_state(*args, **kwargs)

    @_noted
    def _save_checkpoint(self, *args: Any, **kwargs: Any):
        return super()._save_checkpoint(*args, **kwargs)

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """None: TRL would write one per save, into the directory of checkpoints."""
