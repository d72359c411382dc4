"""What a run reports, and what it does about a loss that goes wrong."""

from __future__ import annotations

import errno
import json
import os
import signal
from pathlib import Path

import pytest
import yaml
from conftest import configuration
from gang_of import SRC, Attempt, curve

from forge_train import mishap
from forge_train.gang import Gang
from forge_train.metrics import MAX_NAMES, Lines, Own, Split
from forge_train.outcome import BadInput, NotANumber, RollBack, Spiked
from forge_train.runtime import SPIKED, Runtime

FAULTS = str(Path(__file__).with_name("with_fault.py"))
RECIPES = SRC.parents[1]
SHORT = {"train__max_steps": 24, "train__learning_rate": 1e-2, "checkpoint__every_steps": 5}


class TestValues:
    def test_numbers_of_the_trainer_pass_by_whatever_name_it_has(self):
        own = Own(pytest.fail)
        logs = {"rewards/margins": 0.5, "logps/chosen": -3, "epoch": 1.5, "text": "x", "flag": True, "nan": float("nan")}
        assert own.of(logs) == {"rewards/margins": 0.5, "logps/chosen": -3.0, "epoch": 1.5}

    def test_names_that_will_not_do_are_dropped_and_told_of_once(self):
        said: list[str] = []
        own = Own(said.append)
        bad = ("x" * 65, "a b", "/x", "ü", "")
        assert own.of(dict.fromkeys(bad, 1.0)) == own.of(dict.fromkeys(bad, 1.0)) == {}
        assert len(said) == len(bad) and "'a b'" in said[1]

    def test_there_are_only_so_many_names(self):
        own = Own(lambda _: None)
        assert len(own.of({f"m{i}": 1.0 for i in range(MAX_NAMES + 5)})) == MAX_NAMES
        assert own.of({"m0": 2.0, "new": 1.0}) == {"m0": 2.0}

    def test_time_is_split_among_the_steps_since_the_last_report(self):
        now = [100.0]
        split = Split(clock=lambda: now[0])
        for _ in range(4):
            since, now[0] = now[0], now[0] + 1
            split.spend("data", since)
            now[0] += 2
            split.step()
        since, now[0] = now[0], now[0] + 8
        split.spend("save", since)
        assert split.report() == {"time/data": 1, "time/compute": 2, "time/save": 2}
        now[0] += 3
        split.step()
        assert split.report() == {"time/data": 0, "time/compute": 3, "time/save": 0}


class TestLines:
    def test_on_a_full_disk_they_wait_and_none_is_lost_or_torn(self, tmp_path, monkeypatch):
        lines, real, left = Lines(tmp_path / "m"), os.write, [30]

        def write(fd, data):
            if left[0] == 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            n = real(fd, data[: left[0]])
            left[0] -= n
            return n

        monkeypatch.setattr("forge_train.metrics.os.write", write)
        assert "No space left" in lines.write(1, 9, {"loss": 1.0})
        assert lines.write(2, 9, {"loss": 2.0}) == "", "told of once"
        left[0] = 10_000
        assert lines.write(3, 9, {"loss": 3.0}) == ""
        whole = []
        for line in (tmp_path / "m").read_text().splitlines():
            try:
                whole.append(json.loads(line)["step"])
            except ValueError:
                pass
        assert whole == [1, 2, 3]


class TestWatch:
    def test_a_loss_far_above_the_median_is_a_spike_and_does_not_count(self):
        watch = mishap.Watch(3.0)
        assert [watch.look(2.0 + i / 100) for i in range(20)] == [""] * 20
        assert "more than 3 times the median 2.095 of the last 20 steps" in watch.look(7.0)
        assert watch.look(6.0) == "" and len(watch.losses) == 21

    def test_nothing_is_one_before_there_are_enough(self):
        watch = mishap.Watch(2.0)
        assert watch.look(1.0) == "" and watch.look(1e6) == ""

    def test_what_it_comes_to_is_the_parameters_choice(self):
        params = {"metrics.on_nan": "roll_back", "metrics.on_spike": "stop", "metrics.max_roll_backs": 2}
        assert isinstance(mishap.answer(NotANumber("x"), 9, params, []), RollBack)
        assert isinstance(mishap.answer(Spiked("x"), 9, params, []), Spiked)
        assert isinstance(mishap.answer(NotANumber("x"), 9, params, [9]), NotANumber), "or it would go on for ever"
        last = mishap.answer(NotANumber("x"), 9, params, [3, 5])
        assert type(last) is NotANumber and "rolled back 2 times already" in str(last)

    def test_parameters_that_contradict_each_other_are_refused(self):
        fine = {"metrics.spike_factor": 3.0, "metrics.on_nan": "roll_back", "metrics.on_spike": "stop"}
        mishap.check(fine)
        with pytest.raises(BadInput, match="spike_factor is 0.5"):
            mishap.check(fine | {"metrics.spike_factor": 0.5})
        with pytest.raises(BadInput, match="fp16"):
            mishap.check(fine | {"train.precision": "fp16"})

    def test_a_spike_ends_the_step_on_every_rank(self, run):
        runtime = Runtime(run, Gang())
        runtime.spiked = "the loss is high"
        assert runtime.wish() == SPIKED
        with pytest.raises(Spiked, match="the loss is high"):
            runtime.boundary()


def metric_table(recipe: str) -> set[str]:
    """Names that a recipe's YAML promises, with those of its fragments."""
    doc = yaml.safe_load((RECIPES / f"{recipe}.yaml").read_text())
    names = {m["name"] for m in doc["metrics"]}
    for name in doc["include"]:
        fragment = yaml.safe_load((RECIPES / "fragments" / f"{name}.yaml").read_text())
        names |= {m["name"] for m in fragment.get("metrics", ())}
    return names


def assert_promised(a: Attempt, recipe: str) -> None:
    reported = {name for m in a.metrics() for name in m["values"]}
    assert reported <= metric_table(recipe), f"the YAML of {recipe} lacks {sorted(reported - metric_table(recipe))}"


@pytest.fixture(scope="module")
def from_five(tiny, tmp_path_factory) -> Attempt:
    """Two ranks; rank 1 sees NaN while 9 steps are done and goes back to step 5."""
    config = configuration(tiny, **SHORT, metrics__on_nan="roll_back", checkpoint__keep_best="loss")
    a = Attempt(tmp_path_factory.mktemp("back") / "run", 1, config, 2)
    assert a.start((FAULTS, "nan_loss", "1", "9")).wait() == [0, 0], a.logs()
    return a


@pytest.mark.training
class TestRollBack:
    def test_all_ranks_go_back_together_and_skip_the_batch(self, from_five):
        a = from_five
        assert "going back to checkpoint-5, the batch of step 10 is skipped" in (a.dir / "stderr.0").read_text()
        assert [m["step"] for m in a.metrics()] == [*range(1, 10), *range(6, 25)]
        values = curve(a)
        assert "loss" not in values[10] and "grad_norm" not in values[10] and values[10]["skipped_batches"] == 1
        assert values[11]["loss"] > 0 and values[9].get("skipped_batches") == 0
        assert a.status()["skipped_steps"] == [10]
        assert a.manifests()[24]["skipped_steps"] == [10]
        assert_promised(a, "lora_sft")

    def test_the_steps_that_are_done_again_come_out_the_same(self, from_five):
        first = {m["step"]: m["values"] for m in from_five.metrics()[:9]}
        again = {m["step"]: m["values"] for m in from_five.metrics()[9:13]}
        for step in (6, 7, 8, 9):
            assert again[step]["loss"] == first[step]["loss"]

    def test_where_it_goes_back_to_makes_no_difference_nor_does_being_killed_after(self, from_five, attempt, configure):
        config = configure(**SHORT | {"checkpoint__every_steps": 8}, metrics__on_nan="roll_back")
        first = attempt(config, 2).start((FAULTS, "nan_loss", "1", "9"))
        first.until(lambda: max(first.manifests(), default=0) >= 16, "a save after the roll-back")
        first.kill()
        second = attempt(config, 2, first.newest()).start()
        assert second.wait() == [0, 0], second.logs()
        assert second.status().get("skipped_steps") is None or second.status()["skipped_steps"] == [10]
        adapter = "adapter_model.safetensors"
        assert (second.output / adapter).read_bytes() == (from_five.output / adapter).read_bytes()

    def test_without_any_checkpoint_it_goes_back_to_the_start(self, attempt, configure):
        a = attempt(configure(**SHORT, metrics__on_nan="roll_back")).start((FAULTS, "infinite_gradients", "0", "2"))
        assert a.wait() == [0], a.logs()
        assert "going back to the start" in (a.dir / "stderr.0").read_text()
        assert [m["step"] for m in a.metrics()] == [1, 2, *range(1, 25)]

    def test_only_so_many_times(self, attempt, configure):
        config = configure(**SHORT, metrics__on_nan="roll_back", metrics__max_roll_backs=2)
        a = attempt(config).start((FAULTS, "nan_from_then_on", "0", "6"))
        assert a.wait() == [90], a.logs()
        assert "step 9" in a.status()["message"] and "rolled back 2 times already" in a.status()["message"]
        assert sorted(a.manifests()) == [5]


@pytest.mark.training
@pytest.mark.parametrize(
    ("on_spike", "codes", "said"),
    [("go_on", [0, 0], "going on"), ("stop", [90, 90], "the loss is"), ("roll_back", [0, 0], "going back to checkpoint-15")],
)
def test_a_spike_on_one_rank(attempt, configure, on_spike, codes, said):
    config = configure(**SHORT, metrics__spike_factor=5.0, metrics__on_spike=on_spike)
    a = attempt(config, 2).start((FAULTS, "spike", "0", "17"))
    assert a.wait() == codes, a.logs()
    log = (a.dir / "stderr.0").read_text()
    assert "step 18: the loss is" in log and "more than 5 times the median" in log and said in log
    if on_spike == "stop":
        assert a.status()["reason"] == "spike" and sorted(a.manifests()) == [10, 15]


@pytest.mark.training
def test_a_killed_run_looks_for_spikes_by_the_same_losses_as_an_undisturbed_one(attempt, configure):
    config = configure(**SHORT, metrics__spike_factor=5.0, metrics__on_spike="stop")
    first = attempt(config).start((FAULTS, "die_at_step", "0", "13"))
    assert first.wait() == [-signal.SIGKILL], first.logs()
    second = attempt(config, 1, first.newest()).start((FAULTS, "spike", "0", "14"))
    assert second.wait() == [90], second.logs()
    assert "of the last 14 steps" in second.status()["message"], "10 of them are of the first attempt"
