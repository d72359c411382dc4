"""Trackers: TensorBoard for real; W&B and MLflow by stand-ins that record what they are asked, since neither is installed here."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from forge_train import report
from forge_train.outcome import BadInput

FAULTS = str(Path(__file__).with_name("with_fault.py"))
PARAMS = {"report.to": "", "report.project": "chat", "train.seed": 1}

WANDB = """
import json, os
def _note(*what):
    with open(os.environ["CALLS"], "a") as f:
        f.write(json.dumps(what) + "\\n")
class Run:
    def log(self, values, step): _note("log", step, values)
    def finish(self, exit_code): _note("finish", exit_code)
def init(**given):
    _note("init", {k: v for k, v in given.items() if k != "config"}, given["config"]["forge.attempt"])
    return Run()
"""

MLFLOW = """
import json, os, types
STORE = os.environ["CALLS"]
class MlflowClient:
    def __init__(self):
        self.d = json.load(open(STORE)) if os.path.exists(STORE) else {"experiments": {}, "runs": {}}
    def _keep(self): json.dump(self.d, open(STORE, "w"))
    def get_experiment_by_name(self, name):
        return types.SimpleNamespace(experiment_id=self.d["experiments"][name]) if name in self.d["experiments"] else None
    def create_experiment(self, name):
        self.d["experiments"][name] = str(len(self.d["experiments"])); self._keep()
        return self.d["experiments"][name]
    def search_runs(self, experiments, filter_string, max_results):
        wanted = filter_string.removeprefix("tags.`forge.run_id` = '").removesuffix("'")
        return [self._of(i) for i, r in self.d["runs"].items() if r["experiment"] in experiments and r["tags"]["forge.run_id"] == wanted]
    def _of(self, i): return types.SimpleNamespace(info=types.SimpleNamespace(run_id=i))
    def create_run(self, experiment, tags):
        i = f"r{len(self.d['runs'])}"
        self.d["runs"][i] = {"experiment": experiment, "tags": tags, "points": [], "params": {}, "status": ""}; self._keep()
        return self._of(i)
    def set_tag(self, i, key, value): self.d["runs"][i]["tags"][key] = value; self._keep()
    def update_run(self, i, status): self.d["runs"][i]["status"] = status; self._keep()
    def log_param(self, i, key, value): self.d["runs"][i]["params"][key] = value; self._keep()
    def log_metric(self, i, key, value, step): self.d["runs"][i]["points"].append([key, step, value]); self._keep()
    def get_metric_history(self, i, key):
        return [types.SimpleNamespace(step=s) for k, s, _ in self.d["runs"][i]["points"] if k == key]
    def set_terminated(self, i, status): self.d["runs"][i]["status"] = status; self._keep()
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """stand_in(name, text): a package that records its calls; returns the record."""

    def make(name: str, text: str) -> Path:
        (tmp_path / "packages").mkdir(exist_ok=True)
        (tmp_path / "packages" / f"{name}.py").write_text(text)
        monkeypatch.syspath_prepend(str(tmp_path / "packages"))
        monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
        monkeypatch.delitem(__import__("sys").modules, name, raising=False)
        return tmp_path / "calls"

    return make


def trackers(run, to: str, said: list[str]) -> report.Trackers:
    params = PARAMS | {"report.to": to}
    return report.Trackers(run, params, said.append, report.chosen(params))


def test_none_is_asked_for_and_nothing_is_done(run):
    t = trackers(run, " , ", [])
    t.begin(0)
    t.log(1, {"loss": 1.0})
    t.close(True)
    assert not (run.config.parent / "tensorboard").exists()


def test_what_is_no_tracker_is_refused_by_name():
    with pytest.raises(BadInput, match="report.to names 'comet': known are wandb, tensorboard, mlflow"):
        report.chosen({"report.to": "tensorboard,comet"})


def test_a_tracker_whose_package_is_missing_ends_the_attempt_before_anything_heavy(attempt, configure):
    a = attempt(configure(report__to="wandb")).start()
    assert a.wait() == [87], a.logs()
    assert "has no package wandb: install it there, or leave it out of report.to" in a.status()["message"]


def test_mlflow_without_a_server_is_refused_with_a_sentence(stand_in, monkeypatch):
    stand_in("mlflow", MLFLOW)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(BadInput, match="MLFLOW_TRACKING_URI is not set"):
        report.chosen({"report.to": "mlflow"})


def test_a_stand_in_for_wandb_gets_one_run_by_forges_id_from_every_attempt(run, stand_in, monkeypatch):
    calls, said = stand_in("wandb", WANDB), []
    for name in ("WANDB_MODE", "WANDB_API_KEY", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    for number, steps in ((2, (1, 2)), (3, (2, 3))):
        t = trackers(replace(run, attempt=number), "wandb", said)
        t.begin(steps[0] - 1)
        for step in steps:
            t.log(step, {"loss": 1.0 / step})
        t.close(number == 3)
    got = [json.loads(line) for line in calls.read_text().splitlines()]
    inits = [c for c in got if c[0] == "init"]
    assert [c[2] for c in inits] == [2, 3]
    assert {c[1]["id"] for c in inits} == {run.run_id} and {c[1]["resume"] for c in inits} == {"allow"}
    assert inits[0][1]["mode"] == "offline" and inits[0][1]["project"] == "chat"
    assert [c[1] for c in got if c[0] == "log"] == [1, 2, 2, 3], "W&B itself drops a step that it has"
    assert [c[1] for c in got if c[0] == "finish"] == [1, 0]
    assert said == []


@pytest.mark.parametrize(
    ("env", "mode"),
    [
        ({"WANDB_API_KEY": "k"}, "offline"),
        ({"WANDB_API_KEY": "k", "HF_HUB_OFFLINE": "0"}, "online"),
        ({"HF_HUB_OFFLINE": "0"}, "offline"),
        ({"WANDB_MODE": "disabled", "WANDB_API_KEY": "k"}, "disabled"),
    ],
)
def test_a_stand_in_for_wandb_is_online_only_with_a_key_and_a_network(run, stand_in, monkeypatch, env, mode):
    calls = stand_in("wandb", WANDB)
    for name in ("WANDB_MODE", "WANDB_API_KEY", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    t = trackers(run, "wandb", [])
    t.begin(0)
    t.close(True)
    assert json.loads(calls.read_text().splitlines()[0])[1]["mode"] == mode


def test_a_stand_in_for_mlflow_gets_one_run_by_its_tag_and_each_step_once(run, stand_in, monkeypatch):
    calls, said = stand_in("mlflow", MLFLOW), []
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    for number, steps in ((2, (1, 2, 3)), (3, (2, 3, 4))):
        t = trackers(replace(run, attempt=number), "mlflow", said)
        t.begin(steps[0] - 1)
        for step in steps:
            t.log(step, {"learning_rate": 0.1, "loss": 1.0})
        t.close(number == 3)
    assert said == []
    ((run_id, kept),) = json.loads(calls.read_text())["runs"].items()
    assert kept["tags"]["forge.run_id"] == run.run_id and kept["tags"]["forge.attempt"] == "3"
    assert [p[1] for p in kept["points"] if p[0] == "loss"] == [1, 2, 3, 4]
    assert kept["status"] == "FINISHED" and kept["params"]["train.seed"] == 1


def test_a_tracker_that_fails_is_told_of_and_left_alone(run, stand_in):
    stand_in("wandb", "def init(**_): raise OSError('no route to host')")
    said: list[str] = []
    t = trackers(run, "wandb", said)
    t.begin(0)
    for step in range(1, 6):
        t.log(step, {"loss": 1.0})
    t.close(True)
    assert said == [
        "report.to: wandb failed: OSError: no route to host",
        "report.to: wandb failed 3 times in a row and is left alone",
    ]


def test_a_tracker_that_hangs_delays_neither_a_step_nor_the_end(run, stand_in, monkeypatch):
    stand_in("wandb", "import threading\nforever = threading.Event()\ndef init(**_): forever.wait()")
    monkeypatch.setattr(report, "_CLOSE_SECONDS", 0.2)
    said: list[str] = []
    t = trackers(run, "wandb", said)
    t.begin(0)
    done = threading.Event()

    def train():
        for step in range(50_000):
            t.log(step, {"loss": 1.0})
        t.close(True)
        done.set()

    threading.Thread(target=train, daemon=True).start()
    assert done.wait(30)
    assert "not everything was delivered" in said[0]
    __import__("wandb").forever.set()


@pytest.mark.training
def test_tensorboard_shows_one_curve_over_attempts_and_roll_backs(attempt, configure):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = configure(
        train__max_steps=24,
        train__learning_rate=1e-2,
        checkpoint__every_steps=5,
        report__to="tensorboard",
        metrics__on_nan="roll_back",
    )
    first = attempt(config).start((FAULTS, "die_at_step", "0", "13"))
    first.wait()
    second = attempt(config, 1, first.newest()).start((FAULTS, "nan_loss", "0", "18"))
    assert second.wait() == [0], second.logs()
    events = EventAccumulator(str(second.dir / "tensorboard"))
    events.Reload()
    scalars = {name: {e.step: e.value for e in events.Scalars(name)} for name in ("learning_rate", "loss")}
    assert [e.step for e in events.Scalars("learning_rate")] == list(range(1, 25))
    assert sorted(scalars["loss"]) == [*range(1, 19), *range(20, 25)], "step 19 learned nothing"
    newest = {m["step"]: m["values"] for a in (first, second) for m in a.metrics()}
    for step, values in newest.items():
        assert scalars["learning_rate"][step] == pytest.approx(values["learning_rate"])
