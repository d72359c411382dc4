"""How a run ends before its end: signals, the stop file, the fence, numbers that are none."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
from pathlib import Path

import pytest
from gang_of import SRC

from forge_train import keep

FAULTS = str(Path(__file__).with_name("with_fault.py"))
pytestmark = pytest.mark.training
LONG = {"train__max_steps": 100_000, "checkpoint__every_steps": 1000}
SHORT = {"train__max_steps": 24, "checkpoint__every_steps": 5}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_one_rank_is_signalled_and_all_save_at_the_same_step(attempt, configure, number):
    a = attempt(configure(**LONG), 2).start(new_interpreter=True)
    a.until_step(5)
    a.ranks[1].send_signal(number)
    assert a.wait(30) == [85, 85], a.logs()
    (step,) = a.manifests()
    manifest = a.manifests()[step]
    assert manifest["world_size"] == 2 and manifest["attempt"] == 1 and manifest["step"] == step
    ranks = {f["path"]: f["rank"] for f in manifest["files"]}
    assert ranks["rng_state_0.pth"] == 0 and ranks["rng_state_1.pth"] == 1 and ranks["optimizer.pt"] == 0
    assert (a.status()["outcome"], a.status()["step"]) == ("checkpointed", step)
    assert a.metrics()[-1]["step"] == step
    assert 0 < manifest["seconds"] <= manifest["signal_seconds"] == a.status()["signal_seconds"] < 30


def test_the_stop_file_alone_is_enough(attempt, configure):
    a = attempt(configure(**LONG), 2).start()
    a.until_step(3)
    (a.dir / "stop").write_text('{"signal": "checkpoint", "intent": "checkpoint_preempt"}')
    assert a.wait(30) == [85, 85], a.logs()
    (manifest,) = a.manifests().values()
    assert 0 < manifest["signal_seconds"] < 30


def test_a_grace_that_is_too_short_costs_one_interval_and_the_last_word_says_so(attempt, configure):
    a = attempt(configure(**SHORT)).start((FAULTS, "killed_in_the_save", "0", "13"))
    assert a.wait() == [-signal.SIGKILL], a.logs()
    assert sorted(a.manifests()) == [5, 10]
    status = a.status()
    assert (status["outcome"], status["reason"], status["step"]) == ("failed", "grace", 13)
    assert "the save of step 13 had begun and was not done: the last checkpoint of this attempt is of step 10" in status["message"]


def test_cancel_ends_soon_and_saves_nothing(attempt, configure):
    a = attempt(configure(**LONG), 2).start()
    a.until_step(3)
    (a.dir / "stop").write_text('{"signal": "cancel"}')
    a.ranks[0].send_signal(signal.SIGTERM)
    assert a.wait(30) == [143, 143], a.logs()
    assert list(a.checkpoints.iterdir()) == []
    assert a.status()["reason"] == "cancelled"


def test_a_stop_that_comes_during_the_start_ends_before_the_first_step(attempt, configure):
    a = attempt(configure(**LONG), 2).start(new_interpreter=True)
    (a.dir / "stop").write_text('{"signal": "checkpoint"}')
    for rank in a.ranks:
        rank.send_signal(signal.SIGUSR1) if rank.poll() is None and handler_is_set(rank.pid) else None
    assert a.wait(60) == [85, 85], a.logs()
    assert a.metrics() == [] and list(a.checkpoints.iterdir()) == []
    assert (a.status()["outcome"], a.status()["step"]) == ("checkpointed", 0)


def handler_is_set(pid: int) -> bool:
    """True once the process catches USR1; before that the signal would kill any program."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("SigCgt:"):
            return bool(int(line.split()[1], 16) >> (signal.SIGUSR1 - 1) & 1)
    return False


def test_a_fence_raised_mid_run_stops_metrics_and_saves_at_once(attempt, configure):
    a = attempt(configure(**SHORT), 2).start((FAULTS, "fence_at_step", "0", "15"))
    assert a.wait() == [86, 86], a.logs()
    assert a.metrics()[-1]["step"] == 14
    assert sorted(a.manifests()) == [5, 10]
    assert a.status()["outcome"] == "superseded"


def test_a_fence_raised_during_a_save_leaves_that_save_without_a_manifest(attempt, configure):
    a = attempt(configure(**SHORT), 2).start((FAULTS, "fence_in_save", "1", "15"))
    assert a.wait() == [86, 86], a.logs()
    assert (a.checkpoints / "checkpoint-15" / "optimizer.pt").is_file()
    assert sorted(a.manifests()) == [5, 10]
    assert not any(a.output.iterdir())


def test_an_attempt_that_starts_behind_the_fence_does_not_begin(attempt, configure):
    a = attempt(configure(**SHORT))
    (a.run_dir / "fence").write_text("2\n")
    assert a.start().wait() == [86], a.logs()
    assert a.metrics() == []


@pytest.mark.parametrize("fault", ["nan_loss", "infinite_gradients"])
def test_one_rank_sees_no_number_and_all_end_without_saving_it(attempt, configure, fault):
    # step 9 is computed while 9 steps are done; 10 would be saved
    a = attempt(configure(**SHORT), 2).start((FAULTS, fault, "1", "9"))
    assert a.wait() == [90, 90], a.logs()
    assert sorted(a.manifests()) == [5]
    assert a.status()["reason"] == "nan" and "step 10" in a.status()["message"]
    assert a.metrics()[-1]["step"] == 9


def test_a_base_model_full_of_nan(attempt, configure, tiny, tmp_path):
    from safetensors.torch import load_file, save_file

    shutil.copytree(tiny, tmp_path / "base")
    weights = load_file(tmp_path / "base" / "model.safetensors")
    weights["model.norm.weight"][0] = float("nan")
    save_file(weights, tmp_path / "base" / "model.safetensors", metadata={"format": "pt"})
    config = configure(**SHORT) | {"base": {"path": str(tmp_path / "base")}}
    a = attempt(config).start()
    assert a.wait() == [90], a.logs()
    assert a.metrics() == [] and a.manifests() == {}


def test_a_disk_that_fills_up_on_one_rank_fails_that_save_and_training_goes_on(attempt, configure):
    a = attempt(configure(**SHORT), 2).start((FAULTS, "full_disk", "1", "10"))
    assert a.wait() == [0, 0], a.logs()
    assert sorted(a.manifests()) == [20, 24]
    said = (a.dir / "stderr.0").read_text()
    assert "step 10" in said and "No space left" in said and "newest: 5" in said
    assert a.status()["failed_saves"] == 1
    assert [m["step"] for m in a.metrics() if m["values"].get("failed_saves")] == list(range(11, 25))


def test_a_disk_that_fills_up_on_one_rank_ends_all_where_the_run_wants_it(attempt, configure):
    a = attempt(configure(**SHORT, checkpoint__on_full_disk="stop"), 2).start((FAULTS, "full_disk", "1", "10"))
    assert a.wait() == [1, 1], a.logs()
    assert sorted(a.manifests()) == [5]
    assert not (a.checkpoints / "checkpoint-10").exists(), "what was torn is removed"
    status = a.status()
    assert status["reason"] == "disk_full" and "step 10" in status["message"] and "No space left" in status["message"]


def test_a_disk_that_is_really_full_costs_the_saves_meanwhile_and_nothing_else(attempt, configure, small_disk, tmp_path):
    (tmp_path / "run").symlink_to(small_disk)
    a = attempt(configure(**LONG | {"checkpoint__every_steps": 5})).start()
    a.until(lambda: a.manifests(), "a first checkpoint")
    ballast = small_disk / "ballast"
    with open(ballast, "wb") as f:
        f.write(bytes(disk_room(small_disk)))
    said = a.dir / "stderr.0"
    a.until(lambda: said.read_text().count("there is no room for the checkpoint") >= 1, "a save that was not begun")
    kept = a.manifests()
    assert len(kept) == 2 and all(keep.whole(a.checkpoints / f"checkpoint-{s}") for s in kept)
    ballast.unlink()
    a.until(lambda: max(a.manifests()) > max(kept), "saves again")
    a.ranks[0].send_signal(signal.SIGTERM)
    assert a.wait(30) == [85], a.logs()
    assert a.status()["failed_saves"] >= 1
    assert [m["step"] for m in a.metrics()] == list(range(1, a.status()["step"] + 1)), "no step is lost or doubled"


def disk_room(path: Path) -> int:
    s = os.statvfs(path)
    return s.f_bavail * s.f_frsize


def test_a_port_that_is_taken_is_a_failed_rendezvous(attempt, configure):
    a = attempt(configure(**SHORT), 2)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        a.extra = {"MASTER_PORT": str(taken.getsockname()[1])}
        a.start()
        try:
            assert a.ranks[0].wait(60) == 89, a.logs()
        finally:
            a.kill()
    assert a.status()["reason"] == "rendezvous"


def test_packages_out_of_range_are_named_and_the_attempt_ends_with_88(attempt, configure, tmp_path):
    for name, version in (("trl", "0.9.6"), ("peft", "99.0")):
        info = tmp_path / "stubs" / f"{name}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    a = attempt(configure(**SHORT))
    a.extra = {"PYTHONPATH": f"{tmp_path / 'stubs'}:{SRC}"}
    assert a.start(new_interpreter=True).wait() == [88], a.logs()
    message = a.status()["message"]
    assert "trl 0.9.6 (supported: >=" in message and "peft 99.0 (supported: >=" in message and "torch" not in message


def test_gpus_that_were_placed_and_are_not_there_are_the_nodes_fault(attempt, configure):
    a = attempt(configure(**SHORT))
    a.extra = {"CUDA_VISIBLE_DEVICES": "GPU-00000000-0000-0000-0000-000000000000"}
    assert a.start(new_interpreter=True).wait() == [88], a.logs()
    assert "finds no usable GPU" in a.status()["message"]


def test_metrics_are_whole_json_lines_with_times_that_grow(attempt, configure):
    a = attempt(configure(**SHORT | {"train__logging_steps": 4})).start()
    assert a.wait() == [0], a.logs()
    text = (a.dir / "metrics.jsonl").read_text()
    assert text.endswith("\n")
    lines = [json.loads(line) for line in text.splitlines()]
    # every 4 steps, and with each checkpoint
    assert [m["step"] for m in lines] == [4, 5, 8, 10, 12, 15, 16, 20, 24]
    assert sorted(m["time"] for m in lines) == [m["time"] for m in lines]
