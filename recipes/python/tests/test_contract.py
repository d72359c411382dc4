"""The pieces of the rank contract, one by one, without training anything."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from gang_of import SRC
from threads import Threads

from forge_train import dpo, environment, lora_sft, outcome, reward, rlhf, rundir
from forge_train.gang import Gang
from forge_train.outcome import BadInput, Cancelled, Checkpointed, NodeEnvironment, NotANumber, Superseded
from forge_train.rundir import RunDir
from forge_train.runtime import CANCEL, FENCED, GO_ON, NOT_FINITE, SAVE, Runtime


class TestRunDir:
    def test_paths_follow_from_the_layout_when_only_the_configuration_is_named(self, run):
        attempt = run.config.parent
        assert (run.run_id, run.attempt) == ("01J", 2)
        assert run.checkpoints == attempt / "checkpoints" and run.status == attempt / "status.json"
        assert run.fence == attempt.parent.parent / "fence" and run.resume_from is None

    def test_the_environment_names_every_path(self, tmp_path):
        names = "METRICS HEARTBEAT STATUS CHECKPOINT_DIR OUTPUT_DIR STOP_FILE FENCE_FILE RESUME_FROM".split()
        env = {f"FORGE_{n}": str(tmp_path / n) for n in names} | {"FORGE_CONFIG": "/c", "FORGE_RUN_ID": "r"}
        run = RunDir.from_environment(env)
        paths = (
            run.metrics,
            run.heartbeat,
            run.status,
            run.checkpoints,
            run.output,
            run.stop,
            run.fence,
            run.resume_from,
        )
        assert [p.name for p in paths] == names

    @pytest.mark.parametrize("number", ["0", "x", "-1"])
    def test_an_attempt_number_that_is_none_is_refused(self, number):
        with pytest.raises(BadInput, match="FORGE_ATTEMPT"):
            RunDir.from_environment({"FORGE_CONFIG": "/c", "FORGE_ATTEMPT": number})

    @pytest.mark.parametrize(("highest", "ahead"), [(1, False), (2, False), (3, True)])
    def test_the_fence_stops_only_older_attempts(self, run, highest, ahead):
        run.fence.write_text(f"{highest}\n")
        if ahead:
            with pytest.raises(Superseded, match="attempt 3 holds the fence; this is attempt 2"):
                run.check_fence()
        else:
            run.check_fence()

    @pytest.mark.parametrize("content", [None, "", "two"])
    def test_a_fence_that_cannot_be_read_is_no_permission(self, run, content):
        run.fence.unlink()
        if content is not None:
            run.fence.write_text(content)
        with pytest.raises(OSError, match="cannot be read"):
            run.check_fence()

    @pytest.mark.parametrize(
        ("content", "means"),
        [
            (None, ""),
            ('{"signal":"checkpoint"}', "checkpoint"),
            ('{"signal":"cancel"}', "cancel"),
            ('{"signal":"kill"}', "cancel"),
            ("{}", "checkpoint"),
            ("", "checkpoint"),
            ("[]", "checkpoint"),
        ],
    )
    def test_the_stop_file(self, run, content, means):
        if content is not None:
            run.stop.write_text(content)
        assert run.stop_signal() == means

    def test_a_stop_file_that_cannot_be_read_is_looked_at_again(self, run):
        clock = iter(range(0, 100, 10))
        runtime = Runtime(run, Gang(0, 1, 0), clock=lambda: next(clock))
        run.stop.mkdir()  # reading it is an error, and not that it is not there
        assert runtime.boundary() is False
        run.stop.rmdir()
        run.stop.write_text('{"signal": "checkpoint"}')
        assert runtime.boundary() is True

    def test_a_durable_write_replaces_as_a_whole_and_leaves_nothing_behind(self, run, monkeypatch):
        rundir.write_json(run.status, {"a": 1})
        monkeypatch.setattr(os, "rename", lambda *a: (_ for _ in ()).throw(OSError("no")))
        with pytest.raises(OSError):
            rundir.write_json(run.status, {"a": 2})
        assert json.loads(run.status.read_text()) == {"a": 1}
        assert [p.name for p in run.status.parent.iterdir() if "tmp" in p.name] == []

    def test_a_durable_write_flushes_the_file_before_the_rename_and_the_directory_after(self, run, monkeypatch):
        order = []
        real = os.fsync, os.rename
        monkeypatch.setattr(os, "fsync", lambda fd: (order.append(os.readlink(f"/proc/self/fd/{fd}")), real[0](fd)))
        monkeypatch.setattr(os, "rename", lambda a, b: (order.append("rename"), real[1](a, b)))
        rundir.write_json(run.status, {})
        assert order[0].startswith(str(run.status.parent / ".status.json")) and order[1] == "rename"
        assert order[2] == str(run.status.parent)


class TestAgreement:
    @pytest.mark.parametrize(
        ("wishes", "agreed"),
        [
            ([GO_ON] * 3, GO_ON),
            ([GO_ON, SAVE, GO_ON], SAVE),
            ([SAVE, CANCEL, GO_ON], CANCEL),
            ([CANCEL, NOT_FINITE, SAVE], NOT_FINITE),
            ([FENCED, NOT_FINITE, CANCEL], FENCED),
        ],
    )
    def test_the_strongest_wish_of_any_rank_is_everyones(self, run, wishes, agreed):
        def act(gang):
            runtime = Runtime(run, gang)
            runtime.wish = lambda: wishes[gang.rank]
            return runtime.boundary()

        results = Threads(3).each(act)
        expected = {CANCEL: Cancelled, NOT_FINITE: NotANumber, FENCED: Superseded}.get(agreed)
        for result in results:
            if expected:
                assert isinstance(result, expected)
            else:
                assert result is (agreed == SAVE)

    def test_only_rank_0_reads_the_fence_and_all_obey(self, run):
        run.fence.write_text("3\n")
        assert [type(r) for r in Threads(2).each(lambda g: Runtime(run, g).boundary())] == [Superseded, Superseded]

    def test_a_signal_sets_a_flag_and_nothing_else(self, run):
        runtime = Runtime(run, Gang())
        before = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGUSR1)}
        try:
            runtime.listen()
            assert runtime.wish() == GO_ON
            os.kill(os.getpid(), signal.SIGUSR1)
            assert runtime.wish() == SAVE
            assert runtime.boundary() is True
        finally:
            for n, handler in before.items():
                signal.signal(n, handler)

    def test_a_checkpoint_may_still_become_a_cancel_and_never_the_other_way(self, run):
        now = [0.0]
        runtime = Runtime(run, Gang(), clock=lambda: now[0])
        seen = []
        for content in ('{"signal":"checkpoint"}', '{"signal":"cancel"}', '{"signal":"checkpoint"}'):
            now[0] += 1
            run.stop.write_text(content)
            seen.append(runtime.wish())
        assert seen == [SAVE, CANCEL, CANCEL]

    def test_the_stop_file_is_looked_for_only_so_often(self, run, monkeypatch):
        now, looks = [0.0], []
        runtime = Runtime(replace(run), Gang(), clock=lambda: now[0])
        monkeypatch.setattr(RunDir, "stop_signal", lambda self: looks.append(now[0]) or "")
        for _ in range(1000):
            now[0] += 0.001
            runtime.wish()
        assert 3 <= len(looks) <= 5

    def test_a_stop_before_the_first_step_saves_nothing(self, run):
        run.stop.write_text("{}")
        with pytest.raises(Checkpointed, match="nothing new"):
            Runtime(run, Gang()).before_first_step()


class TestMetrics:
    def test_values_that_are_no_numbers_are_dropped(self, run):
        runtime = Runtime(run, Gang())
        runtime.total_steps = 9
        runtime.report(3, {"loss": 2.5, "bad": float("nan"), "worse": float("inf")})
        (line,) = run.metrics.read_text().splitlines()
        m = json.loads(line)
        assert (m["step"], m["total_steps"], m["values"]) == (3, 9, {"loss": 2.5})
        assert m["time"].endswith("Z") and m["time"][19] == "."

    def test_behind_the_fence_nothing_is_written(self, run):
        runtime = Runtime(run, Gang())
        runtime.report(1, {"loss": 1.0})
        run.fence.write_text("3\n")
        runtime.report(2, {"loss": 1.0})
        assert len(run.metrics.read_text().splitlines()) == 1
        assert runtime.wish() == FENCED

    def test_other_ranks_write_neither_metrics_nor_status(self, run):
        runtime = Runtime(run, Gang(1, 2))
        runtime.report(1, {"loss": 1.0})
        assert runtime.finish(NotANumber("x")) == 90
        assert not run.metrics.exists() and not run.status.exists()

    def test_life_is_shown_where_there_are_no_metrics(self, run):
        now = [0.0]
        runtime = Runtime(run, Gang(), clock=lambda: now[0])
        runtime.report(1, {"loss": 1.0})
        now[0] = 1
        runtime.beat()
        assert not run.heartbeat.exists()
        now[0] = 6
        runtime.beat()
        assert run.heartbeat.exists()


class TestLastWord:
    @pytest.mark.parametrize(
        ("error", "code", "outcome", "reason"),
        [
            (None, 0, "completed", ""),
            (Checkpointed("x"), 85, "checkpointed", "checkpoint"),
            (Superseded("x"), 86, "superseded", "superseded"),
            (BadInput("x"), 87, "failed", "bad_input"),
            (NodeEnvironment("x"), 88, "failed", "node_env"),
            (NotANumber("x"), 90, "failed", "nan"),
            (Cancelled("x"), 143, "failed", "cancelled"),
            (
                type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory. Tried to allocate"),
                91,
                "failed",
                "cuda_oom",
            ),
            (RuntimeError("CUDA error: out of memory"), 91, "failed", "cuda_oom"),
            (type("DistNetworkError", (RuntimeError,), {})("EADDRINUSE"), 89, "failed", "rendezvous"),
            (
                RuntimeError("[.../gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]"),
                89,
                "failed",
                "rendezvous",
            ),
            (RuntimeError("shape mismatch"), 1, "failed", "user_exit"),
            (ImportError("cannot import name"), 88, "failed", "node_env"),
            (MemoryError(), 1, "failed", "user_exit"),
        ],
        ids=lambda x: str(x),
    )
    def test_every_end_has_its_code(self, run, error, code, outcome, reason):
        runtime = Runtime(run, Gang())
        runtime.step, runtime.total_steps = 4, 9
        assert runtime.finish(error) == code
        status = json.loads(run.status.read_text())
        assert (status["attempt"], status["outcome"], status["reason"]) == (2, outcome, reason)
        assert (status["step"], status["total_steps"]) == (4, 9)

    def test_torchs_own_out_of_memory_is_recognised(self):
        import torch

        assert outcome.judge(torch.OutOfMemoryError("x")).code == 91

    def test_a_status_that_cannot_be_written_does_not_change_the_code(self, run):
        run = replace(run, status=Path("/proc/nowhere/status.json"))
        assert Runtime(run, Gang()).finish(NotANumber("x")) == 90


class TestGang:
    @pytest.mark.parametrize("env", [{"RANK": "2", "WORLD_SIZE": "2"}, {"RANK": "x"}, {"WORLD_SIZE": "0"}])
    def test_a_rank_outside_its_world_is_refused(self, env):
        with pytest.raises(BadInput, match="RANK|WORLD_SIZE"):
            Gang.from_environment(env)


class TestEnvironment:
    @pytest.mark.parametrize(
        ("version", "numbers"),
        [("2.15.0+cu132", (2, 15)), ("5.0.0.dev0", (5,)), ("1.16.0rc1", (1, 16)), ("3", (3,)), ("", ())],
    )
    def test_versions_are_read_without_their_tails(self, version, numbers):
        assert environment.release(version) == numbers

    def test_this_environment_does(self):
        found = environment.check()
        assert set(found) == {"python", *environment.SUPPORTED}

    def test_what_is_missing_is_named(self, monkeypatch):
        monkeypatch.setitem(environment.SUPPORTED, "no-such-package", ("1", "2"))
        with pytest.raises(NodeEnvironment, match="no-such-package is missing .supported: >=1,<2"):
            environment.check()

    def test_the_digest_is_over_sorted_paths_and_contents_as_forge_computes_it(self, tmp_path):
        package = tmp_path / "forge_train"
        (package / "b").mkdir(parents=True)
        (package / "a.py").write_bytes(b"A")
        (package / "b" / "c.py").write_bytes(b"C")
        (package / "a.txt").write_bytes(b"not code")
        expected = hashlib.sha256(b'"forge_train/a.py" 1\nA"forge_train/b/c.py" 1\nC').hexdigest()
        assert environment.code_digest(tmp_path) == expected

    def test_every_file_below_src_is_in_the_digest(self):
        there = [p.relative_to(SRC) for p in SRC.rglob("*") if p.is_file() and "__pycache__" not in p.parts]
        assert {p.suffix for p in there if p.parts[1] != "suites"} == {".py"}, "what is no code lies with the suites"

    def test_a_suite_is_in_the_digest(self, tmp_path):
        suites = tmp_path / "forge_train" / "suites" / "s"
        suites.mkdir(parents=True)
        (suites / "suite.yaml").write_bytes(b"S")
        (suites / ".hidden").write_bytes(b"not of it")
        assert environment.code_digest(tmp_path) == hashlib.sha256(b'"forge_train/suites/s/suite.yaml" 1\nS').hexdigest()

    def test_what_is_checked_before_the_imports_needs_the_standard_library_alone(self):
        code = (
            "import sys; from forge_train import dpo, lora_sft, reward, rlhf; "
            "print([m for m in ('torch', 'numpy', 'transformers') if m in sys.modules])"
        )
        out = subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONPATH": str(SRC)}, capture_output=True, text=True, check=True
        )
        assert out.stdout.strip() == "[]"


RECIPES = [lora_sft, dpo, reward, rlhf]


class TestRecipe:
    @pytest.mark.parametrize("module", RECIPES, ids=lambda m: m.RECIPE.name)
    def test_the_yaml_and_the_program_name_the_same_parameters(self, module):
        recipe = yaml.safe_load((SRC.parents[1] / f"{module.RECIPE.name}.yaml").read_text())
        kinds = {"int": int, "float": float, "bool": bool, "string": str, "enum": str}
        params: dict[str, dict] = {}
        for name in recipe["include"]:
            fragment = yaml.safe_load((SRC.parents[1] / "fragments" / f"{name}.yaml").read_text())
            params |= {p["name"]: p for p in fragment["params"]}
        params |= {p["name"]: p for p in recipe["params"]}
        theirs = [
            (
                p["name"],
                kinds[p["type"]],
                kinds[p["type"]](p["default"]),
                p.get("min"),
                p.get("max"),
                tuple(p.get("enum", ())),
            )
            for p in params.values()
        ]
        ours = [(p.name, p.kind, p.default, p.low, p.high, p.choices) for p in module.RECIPE.params]
        assert sorted(theirs) == sorted(ours)
        assert recipe["entry"]["module"] == module.__name__
        assert recipe["datasets"] == list(module.RECIPE.kinds)


class TestTiny:
    @pytest.mark.slow
    def test_equal_seeds_give_equal_bytes_and_others_do_not(self, tiny, tmp_path):
        from forked import Forked

        for name, seed in (("same", "0"), ("other", "1")):
            code = tmp_path / f"{name}.py"
            code.write_text(
                f"from pathlib import Path; from forge_train import tiny; "
                f"tiny.make(Path({str(tmp_path / name)!r}), {seed})"
            )
            p = Forked((str(code),), {"PATH": os.environ["PATH"]}, tmp_path / "out", tmp_path / "err")
            assert p.wait() == 0, (tmp_path / "err").read_text()
        content = {
            d: {p.name: p.read_bytes() for p in d.iterdir()} for d in (tiny, tmp_path / "same", tmp_path / "other")
        }
        assert content[tiny] == content[tmp_path / "same"]
        assert content[tiny]["model.safetensors"] != content[tmp_path / "other"]["model.safetensors"]
        assert content[tiny]["tokenizer.json"] == content[tmp_path / "other"]["tokenizer.json"]

    def test_a_directory_with_something_in_it_is_refused(self, tmp_path):
        (tmp_path / "x").touch()
        p = subprocess.run(
            [sys.executable, "-m", "forge_train.tiny", tmp_path],
            env={"PYTHONPATH": str(SRC)},
            capture_output=True,
            text=True,
        )
        assert p.returncode == 2 and "not an empty directory" in p.stderr


class TestDataset:
    def test_the_shipped_chat_is_plain_varied_and_has_no_double(self):
        lines = (SRC.parent / "data" / "support_chat.jsonl").read_bytes().splitlines()
        assert 150 <= len(lines) <= 250 and len(set(lines)) == len(lines)
        assert all(b < 128 for line in lines for b in line)
        for line in lines:
            roles = [m["role"] for m in json.loads(line)["messages"]]
            talk = roles[1:] if roles[0] == "system" else roles
            assert talk == ["user", "assistant"] * (len(talk) // 2)
