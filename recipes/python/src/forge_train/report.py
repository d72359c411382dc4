"""Trackers: what a run reports goes to W&B, TensorBoard or MLflow too, as one curve over all attempts.

A tracker is somebody else's program on somebody else's network. So it lives in a thread of rank 0 behind a
bounded queue: it can neither delay a step nor end a run, and what it misses is in metrics.jsonl. The values are
those of metrics.jsonl, under the same names.
"""

from __future__ import annotations

import importlib.util
import os
import queue
import shutil
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .outcome import BadInput
from .rundir import RunDir

_PACKAGES = {"wandb": "wandb", "tensorboard": "tensorboard", "mlflow": "mlflow"}
_WAITING = 10_000
_CLOSE_SECONDS = 10.0
_FAILURES = 3  # in a row, then a tracker is left alone
_COPIED_BYTES = 256 << 20


def chosen(params: Mapping[str, Any]) -> tuple[str, ...]:
    """The trackers that report.to names; BadInput for what is none, or cannot be used here."""
    names = tuple(dict.fromkeys(n.strip() for n in params["report.to"].split(",") if n.strip()))
    for name in names:
        if name not in _PACKAGES:
            raise BadInput(f"report.to names {name!r}: known are {', '.join(_PACKAGES)}")
        if importlib.util.find_spec(_PACKAGES[name]) is None:
            raise BadInput(
                f"report.to names {name}, and the Python environment {sys.prefix} has no package {_PACKAGES[name]}: "
                "install it there, or leave it out of report.to"
            )
    if "mlflow" in names and not os.environ.get("MLFLOW_TRACKING_URI"):
        raise BadInput(
            "report.to names mlflow, and MLFLOW_TRACKING_URI is not set: without a server the attempts of a run "
            "share no place to report to. Set it in the cluster's env or in the run's secrets file"
        )
    return names


class Trackers:
    """The trackers of rank 0; with none of them every call does nothing."""

    def __init__(self, run: RunDir, params: Mapping[str, Any], say: Callable[[str], None], names: tuple[str, ...] = ()):
        self._queue: queue.Queue = queue.Queue(_WAITING)
        self._thread: threading.Thread | None = None
        self._run, self._params, self._say, self._names = run, params, say, names

    def begin(self, step: int) -> None:
        """Training starts behind this step: at the start, and again after a roll-back."""
        if not self._names:
            return
        if self._thread is None:
            # a daemon: one that hangs must not keep the process
            self._thread = threading.Thread(target=self._work, name="trackers", daemon=True)
            self._thread.start()
        self._put(("begin", step))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """One line of metrics."""
        self._put(("log", step, dict(values)))

    def close(self, done: bool) -> None:
        """The end; a tracker that takes longer than a moment is left behind."""
        self._put(("close", done))
        if self._thread is not None:
            self._thread.join(_CLOSE_SECONDS)
            if self._thread.is_alive():
                self._say(f"report.to: not everything was delivered within {_CLOSE_SECONDS:g} s; metrics.jsonl has it all")

    def _put(self, job: tuple) -> None:
        if self._thread is None:
            return
        try:
            self._queue.put_nowait(job)
        except queue.Full:
            pass

    def _work(self) -> None:
        kinds = {"wandb": Wandb, "tensorboard": TensorBoard, "mlflow": MLflow}
        open_ones: dict[str, Any] = {n: None for n in self._names}
        failures = dict.fromkeys(self._names, 0)
        while True:
            kind, *rest = self._queue.get()
            for name in list(open_ones):
                try:
                    if open_ones[name] is None:
                        open_ones[name] = kinds[name](self._run, self._params)
                    getattr(open_ones[name], kind)(*rest)
                    failures[name] = 0
                except Exception as e:
                    failures[name] += 1
                    if failures[name] == 1:
                        self._say(f"report.to: {name} failed: {type(e).__name__}: {str(e)[:300]}")
                    if failures[name] >= _FAILURES:
                        self._say(f"report.to: {name} failed {_FAILURES} times in a row and is left alone")
                        del open_ones[name]
            if kind == "close":
                return


class Wandb:
    """W&B: the run's id is forge's. Offline unless there are a network and a key."""

    def __init__(self, run: RunDir, params: Mapping[str, Any]):
        import wandb

        online = os.environ.get("WANDB_API_KEY") and os.environ.get("HF_HUB_OFFLINE", "1") != "1"
        self._run = wandb.init(
            id=run.run_id,
            name=run.run_id,
            project=params["report.project"],
            resume="allow",
            mode=os.environ.get("WANDB_MODE") or ("online" if online else "offline"),
            dir=str(run.config.parent),
            config=dict(params) | {"forge.attempt": run.attempt},
        )

    def begin(self, step: int) -> None:
        """W&B drops a step that it has already."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def close(self, done: bool) -> None:
        self._run.finish(exit_code=0 if done else 1)


class TensorBoard:
    """TensorBoard: the events of earlier attempts are copied beside ours, which void the steps done again."""

    def __init__(self, run: RunDir, params: Mapping[str, Any]):
        self._dir = run.config.parent / "tensorboard"
        self._dir.mkdir(mode=0o750, exist_ok=True)
        self._writer = None
        earlier = [p for p in run.config.parent.parent.glob("*/tensorboard") if p != self._dir]
        room = _COPIED_BYTES
        for source in _newest_first(earlier):
            for events in sorted(source.glob("events.out.tfevents.*")):
                if not (self._dir / events.name).exists() and events.is_file() and room >= events.stat().st_size:
                    room -= events.stat().st_size
                    shutil.copyfile(events, self._dir / events.name)

    def begin(self, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        if self._writer is not None:
            self._writer.close()
        self._writer = SummaryWriter(str(self._dir), purge_step=step + 1)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self, done: bool) -> None:
        if self._writer is not None:
            self._writer.close()


def _newest_first(paths: list[Path]) -> list[Path]:
    return sorted(paths, key=lambda p: p.parent.name, reverse=True)


class MLflow:
    """MLflow: the run with the tag forge.run_id, made by the first attempt and found by the others."""

    def __init__(self, run: RunDir, params: Mapping[str, Any]):
        from mlflow import MlflowClient

        self._client = MlflowClient()
        project = params["report.project"]
        experiment = self._client.get_experiment_by_name(project)
        experiment_id = experiment.experiment_id if experiment else self._client.create_experiment(project)
        found = self._client.search_runs([experiment_id], f"tags.`forge.run_id` = '{run.run_id}'", max_results=1)
        tags = {"forge.run_id": run.run_id, "mlflow.runName": run.run_id}
        self._id = (found[0] if found else self._client.create_run(experiment_id, tags=tags)).info.run_id
        self._client.set_tag(self._id, "forge.attempt", str(run.attempt))
        self._client.update_run(self._id, "RUNNING")
        if not found:
            for name, value in params.items():
                self._client.log_param(self._id, name, value)
        history = self._client.get_metric_history(self._id, "learning_rate") if found else []
        self._last = max((m.step for m in history), default=-1)  # a step that is there already is not sent again

    def begin(self, step: int) -> None:
        """MLflow keeps every point: those of steps that are done again are not sent a second time."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        if step <= self._last:
            return
        for name, value in values.items():
            self._client.log_metric(self._id, name, value, step=step)
        self._last = step

    def close(self, done: bool) -> None:
        self._client.set_terminated(self._id, "FINISHED" if done else "KILLED")
