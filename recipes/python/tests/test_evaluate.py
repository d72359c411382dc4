"""Evals that cannot lie: what counts is in files, newer than the start, whole, and of the suite that was pinned."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from gang_of import RUN_ID, SRC, Attempt

from forge_train import environment, evaluate, scores, subject, suite
from forge_train.outcome import BAD_INPUT, CHECKPOINTED, FAILED, NODE_ENV, OK, BadInput

OFFLINE = ("default-offline", "safety-offline", "quality-offline", "reasoning-offline")
FAULTS = str(Path(__file__).with_name("eval_fault.py"))


def config(tiny: Path, name: str = "reasoning-offline", path: Path | None = None, **params) -> dict:
    root = path or suite.BUILTIN / name
    pinned = {"name": name, "sha256": suite.digest(root)} | ({"path": str(path)} if path else {})
    return {
        "run_id": RUN_ID,
        "recipe": "evaluate",  # what the tests start: the module's name
        "params": {k.replace("__", "."): v for k, v in params.items()},
        "model": {"name": "tiny@1", "sha256": "aa", "path": str(tiny)},
        "suite": pinned,
    }


def found(a: Attempt) -> dict:
    return json.loads((a.output / "scores.json").read_text())


def values(doc: dict) -> dict[tuple, float]:
    return {(t["task"], s["metric"], s["filter"]): s["value"] for t in doc["tasks"] for s in t["scores"]}


def ended(a: Attempt, code: int) -> str:
    assert a.wait() == [code], a.logs()
    return a.status()["message"]


@pytest.fixture
def own_suite(tmp_path):
    """A copy of a built-in suite, to be changed: a site's own."""
    return shutil.copytree(suite.BUILTIN / "reasoning-offline", tmp_path / "suites" / "mine")


@pytest.mark.training
@pytest.mark.parametrize("name", [OFFLINE[0], *(pytest.param(n, marks=pytest.mark.long) for n in OFFLINE[1:])])
def test_a_suite_gives_what_bare_lm_eval_gives(name, tiny, attempt, tmp_path):
    a = attempt(config(tiny, name)).start()
    assert a.wait() == [OK], a.logs()
    doc, lines = found(a), [json.loads(x) for x in (a.output / "samples.jsonl").read_text().splitlines()]
    assert values(doc) == pytest.approx(bare(name, tiny, tmp_path), abs=1e-12)
    assert doc["limit"] == 0 and all(t["n_samples"]["original"] == t["n_samples"]["effective"] > 0 for t in doc["tasks"])
    assert len(lines) == doc["samples"]["count"] == sum(t["n_samples"]["effective"] for t in doc["tasks"])
    assert set(lines[0]) == {
        "task", "filter", "doc_id", "doc_hash", "prompt_hash", "target_hash", "metrics", "target", "response", "prompt",
    }
    assert a.status()["step"] == a.status()["total_steps"] == len(lines)
    assert list((a.output / "lm_eval").glob("*/model/results_*.json")), "lm-eval's own files are part of the output"


def bare(name: str, tiny: Path, tmp_path: Path) -> dict[tuple, float]:
    """The same tasks by lm-eval's own command."""
    include = tmp_path / "include"
    root = shutil.copytree(suite.BUILTIN / name, include / name)
    (root / "suite.yaml").unlink()
    for f in root.glob("*.yaml"):
        f.write_text(f.read_text().replace(f"test: {f.stem}.jsonl", f"test: {root}/{f.stem}.jsonl"))
    tasks = list(suite.read({"suite": {"name": name}}).own)
    command = [sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--model_args", f"pretrained={tiny}", "--tasks", *tasks]
    command += ["--include_path", str(include), "--output_path", str(tmp_path / "bare"), "--log_samples", "--device", "cpu"]
    env = os.environ | {"HF_DATASETS_OFFLINE": "1", "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf"), "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, "--batch_size", "8"], env=env, check=True, timeout=120, capture_output=True)
    doc = json.loads(next((tmp_path / "bare").rglob("results_*.json")).read_text())
    return {
        (task, *key.split(",")): v
        for task, of in doc["results"].items()
        for key, v in of.items()
        if "," in key and "_stderr," not in key
    }


@pytest.mark.training
@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("writes_nothing", "left no results file"),
        pytest.param("nan", "which is no number", marks=pytest.mark.long),
        pytest.param("fewer", "evaluated 29 of 30 samples", marks=pytest.mark.long),
        pytest.param("no_metric", "has no score", marks=pytest.mark.long),
        pytest.param("better", "the mean of its samples", marks=pytest.mark.long),
        pytest.param("lost_sample", "30 samples were evaluated and 29", marks=pytest.mark.long),
    ],
)
def test_a_harness_that_ends_well_and_leaves_what_does_not_hold_has_failed(fault, says, tiny, attempt):
    a = attempt(config(tiny)).start((FAULTS, fault))
    assert says in ended(a, FAILED)
    assert a.status()["reason"] == "eval_failed" and not (a.output / "scores.json").exists()


@pytest.mark.training
def test_a_stop_saves_the_tasks_that_are_done_and_the_next_attempt_runs_only_the_others(tiny, attempt):
    whole = attempt(config(tiny)).start()
    assert whole.wait() == [OK], whole.logs()
    first = attempt(config(tiny)).start((FAULTS, "stop_in_second"))
    assert "1 of 2 tasks are done and saved" in ended(first, CHECKPOINTED)
    second = attempt(config(tiny), resume=first.newest()).start((FAULTS, "count"))
    assert second.wait() == [OK], second.logs()
    assert (second.dir / "ran").read_text() == '"forge_story"\n'
    assert values(found(second)) == values(found(whole)) and found(second)["samples"] == found(whole)["samples"]
    other = attempt(config(tiny, eval__seed=7), resume=first.newest()).start((FAULTS, "count"))
    assert other.wait() == [OK], other.logs()
    assert len((other.dir / "ran").read_text().splitlines()) == 2, "other parameters: nothing may be taken over"


@pytest.mark.training
def test_an_eval_says_that_it_was_limited_and_which_samples_belong_together(tiny, attempt, own_suite):
    rows = [json.loads(x) | {"text": f"text {n // 2}"} for n, x in enumerate((own_suite / "logic.jsonl").read_text().splitlines())]
    (own_suite / "logic.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    doc = (own_suite / "suite.yaml").read_text()
    (own_suite / "suite.yaml").write_text(doc.replace("task: forge_logic", "task: forge_logic\n    cluster: text"))
    a = attempt(config(tiny, "mine", own_suite, eval__limit=3)).start()
    assert a.wait() == [OK], a.logs()
    assert found(a)["limit"] == 3 and {t["n_samples"]["effective"] for t in found(a)["tasks"]} == {3}
    assert {t["n_samples"]["original"] for t in found(a)["tasks"]} == {30}
    lines = [json.loads(x) for x in (a.output / "samples.jsonl").read_text().splitlines()]
    assert {x["doc_id"]: x["cluster"] for x in lines if x["task"] == "forge_logic"} == {0: "text 0", 1: "text 0", 2: "text 1"}
    assert all("cluster" not in x for x in lines if x["task"] == "forge_story"), "samples of it stand for themselves"


class TestBadInput:
    """Named before a model is loaded."""

    def refused(self, a: Attempt, *says: str) -> None:
        message = ended(a.start(), BAD_INPUT)
        assert all(s in message for s in says), message

    def test_a_suite_that_has_changed_since_the_eval_was_submitted(self, tiny, attempt, own_suite):
        given = config(tiny, "mine", own_suite)
        (own_suite / "story.jsonl").write_text('{"question": "1+1?", "answer": "2"}\n')
        self.refused(attempt(given), "suite mine", "has changed since")

    @pytest.mark.parametrize(
        ("file", "old", "new", "says"),
        [
            ("logic.yaml", "logic.jsonl", "other.jsonl", "logic.yaml: dataset_kwargs.data_files.test: there is no other.jsonl"),
            ("story.yaml", "function: regex,", "function: sieve,", "there is no filter 'sieve'"),
            ("logic.yaml", "metric: acc", "metric: luck", "there is no metric 'luck'"),
            ("suite.yaml", "filter: number", "filter: word", "filter: the task has number, and no word"),
            pytest.param("suite.yaml", "task: forge_logic", "task: no_such_task", "has no task no_such_task", marks=pytest.mark.slow),
            pytest.param(
                "suite.yaml",
                "task: forge_logic",
                "task: forge_logic\n    cluster: author",
                "cluster: document 0 of task forge_logic has no field author",
                marks=pytest.mark.long,
            ),
        ],
    )
    def test_a_suite_that_cannot_run_is_named_by_file_and_key(self, file, old, new, says, tiny, attempt, own_suite):
        (own_suite / file).write_text((own_suite / file).read_text().replace(old, new))
        self.refused(attempt(config(tiny, "mine", own_suite)), says)

    def test_more_than_one_rank(self, tiny, attempt):
        a = attempt(config(tiny), world=2).start()
        assert a.wait() == [BAD_INPUT, BAD_INPUT] and "one process on one GPU" in a.status()["message"]

    def test_no_model_and_no_suite(self, tiny, attempt):
        given = config(tiny)
        self.refused(attempt({k: v for k, v in given.items() if k != "model"}), "names no model")
        self.refused(attempt({k: v for k, v in given.items() if k != "suite"}), "names no suite")


class TestSubject:
    """An adapter is evaluated over the base that it was trained over, and over no other."""

    @pytest.fixture
    def adapter(self, tiny, tmp_path):
        path = tmp_path / "adapter"
        path.mkdir()
        (path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(tiny)}))
        return path

    def model(self, adapter, base, **known) -> dict:
        return {"model": {"name": "bot@1", "sha256": "aa", "path": str(adapter), "base": {"name": "tiny@1", "path": str(base), **known}}}

    def test_the_base_that_it_names_will_do(self, adapter, tiny):
        got = subject.read(self.model(adapter, tiny))
        assert got.adapter == adapter and got.weights == tiny and got.tokenizer == tiny

    def test_another_directory_than_it_names(self, adapter, tiny, tmp_path):
        other = shutil.copytree(tiny, tmp_path / "other")
        with pytest.raises(BadInput, match="eval of an adapter on the wrong base: bot@1 names"):
            subject.read(self.model(adapter, other))

    def test_the_digest_counts_more_than_the_path(self, adapter, tiny, tmp_path):
        (adapter / "training.json").write_text(json.dumps({"base": {"name": "tiny@1", "sha256": "ab"}}))
        moved = shutil.copytree(tiny, tmp_path / "moved")
        assert subject.read(self.model(adapter, moved, sha256="ab")).weights == moved
        with pytest.raises(BadInput, match="was trained over tiny@1"):
            subject.read(self.model(adapter, tiny, sha256="cd"))

    def test_another_vocabulary(self, adapter, tiny):
        doc = json.loads((tiny / "tokenizer.json").read_text())
        a, b = list(doc["model"]["vocab"])[-2:]
        doc["model"]["vocab"][a], doc["model"]["vocab"][b] = doc["model"]["vocab"][b], doc["model"]["vocab"][a]
        (adapter / "tokenizer.json").write_text(json.dumps(doc))
        with pytest.raises(BadInput, match="another vocabulary"):
            subject.read(self.model(adapter, tiny))

    def test_a_whole_model_with_a_base_and_an_adapter_without(self, adapter, tiny):
        with pytest.raises(BadInput, match="is no adapter"):
            subject.read(self.model(tiny, tiny))
        with pytest.raises(BadInput, match="names no base under it"):
            subject.read({"model": {"name": "bot@1", "path": str(adapter)}})


def test_the_digest_of_a_suite_is_the_one_that_forged_pins(tmp_path):
    """recipes/suite_test.go has the same files and the same digest."""
    suite_yaml = "name: mine\ndoc: Ours\nversion: 2\nbenchmarks:\n  - {task: ours, metric: acc, direction: higher, threshold: 0.5, margin: 0.1}\n"
    task_yaml = (
        "task: ours\ndataset_path: json\ndataset_kwargs: {data_files: {test: ours.jsonl}}\ntest_split: test\noutput_type: multiple_choice\n"
        'doc_to_text: "{{question}}"\nmetric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]\n'
    )
    (tmp_path / "__pycache__").mkdir()
    for name, text in {
        "suite.yaml": suite_yaml,
        "ours.yaml": task_yaml,
        "ours.jsonl": '{"question": "é"}\n',
        ".hidden": "x",
        "__pycache__/x.pyc": "x",
    }.items():
        (tmp_path / name).write_text(text)
    assert suite.digest(tmp_path) == "3172025bfc72092431ce2c0bb86c33459f6cab214103130e07565e89c75e0f5e"


@pytest.mark.slow
def test_every_task_of_a_suite_is_known_to_the_harness():
    from lm_eval.tasks import TaskManager

    known = set(TaskManager().all_tasks)
    for root in sorted(suite.BUILTIN.iterdir()):
        s = suite.read({"suite": {"name": root.name}})
        suite.check_words(s)
        assert s.offline == root.name.endswith("-offline")
        assert [t for t in s.tasks if t not in s.own and t not in known] == []


def test_an_environment_without_the_harness_is_the_nodes_fault(monkeypatch):
    monkeypatch.setitem(environment.EVALS, "lm-eval", ("0.9", "1"))
    with pytest.raises(evaluate.NodeEnvironment, match=r"lm_eval 0\.4\.13 \(supported: >=0\.9,<1\)") as e:
        evaluate.harness_version()
    assert e.value.code == NODE_ENV


def test_parameters_are_those_of_the_recipe_file():
    import yaml

    doc = yaml.safe_load((SRC.parents[1] / "eval.yaml").read_text())
    given = {p["name"]: p for p in doc["params"]}
    assert list(given) == [p.name for p in evaluate.PARAMS]
    for p in evaluate.PARAMS:
        y = given[p.name]
        assert (y["default"], y.get("min"), y.get("max"), tuple(y.get("enum", ()))) == (p.default, p.low, p.high, p.choices), p.name


class TestSamplesSayInWordsWhatWasWantedAndWhatWasAnswered:
    def sample(self, **other) -> dict:
        return {
            "filter": "none", "doc_id": 4, "doc_hash": "d", "prompt_hash": "p", "target_hash": "t", "doc": {"topic": "refunds"}, "metrics": ["acc"], "acc": 0.0,
            "target": "1", "filtered_resps": [["-0.01", "True"], ["-10.2", "False"]],
            "arguments": {"gen_args_0": {"arg_0": "Which team?", "arg_1": " support"}, "gen_args_1": {"arg_0": "Which team?", "arg_1": " billing"}},
        } | other

    def test_of_several_choices(self):
        got = scores.row("tickets", self.sample())
        assert (got["target"], got["response"], got["prompt"]) == ("billing", "support", "Which team?")

    @pytest.mark.parametrize("other", [{"target": "nobody"}, {"target": "7"}])
    def test_a_target_that_is_no_choice_stays_as_it_is(self, other):
        got = scores.row("tickets", self.sample(**other))
        assert (got["target"], got["response"]) == (other["target"], "support")

    def test_what_the_model_wrote_itself(self):
        got = scores.row("sums", self.sample(target="12", filtered_resps=["13"], arguments={"gen_args_0": {"arg_0": "5+7=", "arg_1": {"until": ["\n"]}}}))
        assert (got["target"], got["response"]) == ("12", "13")

    def test_a_form_that_is_not_known(self):
        assert scores.row("odd", self.sample(filtered_resps=[None, None]))["response"] == "[null, null]"
