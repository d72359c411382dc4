"""Checkpoints without training: manifests, what stays, full disks."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import time
from pathlib import Path

import pytest
from threads import Threads

from forge_train import checkpoint, disk, keep, rundir
from forge_train.gang import Gang
from forge_train.outcome import DiskFull, Superseded
from forge_train.rundir import RunDir


def fake_save(run: RunDir, step: int, world: int = 1) -> Path:
    root = checkpoint.directory(run, step)
    (root / "sub").mkdir(parents=True)
    (root / "adapter_model.safetensors").write_bytes(b"weights" * step)
    (root / "sub" / "more.bin").write_bytes(b"")
    for rank in range(world):
        (root / (f"rng_state_{rank}.pth" if world > 1 else "rng_state.pth")).write_bytes(b"rng%d" % rank)
    return root


class TestManifest:
    def test_lists_every_file_with_size_digest_and_the_rank_that_wrote_it(self, run):
        root = fake_save(run, 40, world=2)
        returned = Threads(2).each(lambda g: checkpoint.commit(run, g, 40))
        manifest = json.loads((root / rundir.MANIFEST).read_text())
        assert returned == [manifest, {}]
        assert {k: manifest[k] for k in ("layout", "run_id", "attempt", "step", "world_size")} == {
            "layout": 1,
            "run_id": "01J",
            "attempt": 2,
            "step": 40,
            "world_size": 2,
        }
        files = {f["path"]: f for f in manifest["files"]}
        assert set(files) == {"adapter_model.safetensors", "sub/more.bin", "rng_state_0.pth", "rng_state_1.pth"}
        for path, f in files.items():
            data = (root / path).read_bytes()
            assert (f["size"], f["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
        assert {p: f["rank"] for p, f in files.items() if f["rank"]} == {"rng_state_1.pth": 1}

    def test_says_how_long_the_save_took_when_its_beginning_is_known(self, run):
        for step, began in ((5, None), (10, time.monotonic() - 90)):
            fake_save(run, step)
            checkpoint.commit(run, Gang(), step, began)
        manifests = [json.loads((checkpoint.directory(run, s) / rundir.MANIFEST).read_text()) for s in (5, 10)]
        assert "seconds" not in manifests[0]
        assert 90 <= manifests[1]["seconds"] < 120

    def test_everything_is_flushed_before_the_manifest_gets_its_name(self, run, monkeypatch):
        root = fake_save(run, 5)
        flushed: list[str] = []
        at_rename: list[set[str]] = []
        real = os.fsync, os.rename
        monkeypatch.setattr(os, "fsync", lambda fd: (flushed.append(os.readlink(f"/proc/self/fd/{fd}")), real[0](fd)))
        monkeypatch.setattr(os, "rename", lambda a, b: (at_rename.append(set(flushed)), real[1](a, b)))
        checkpoint.commit(run, Gang(), 5)
        everything = {str(root), str(root.parent), *(str(p) for p in root.rglob("*") if p.name != rundir.MANIFEST)}
        assert everything <= at_rename[0]

    def test_behind_the_fence_there_is_none_and_every_rank_knows(self, run):
        root = fake_save(run, 5, world=2)
        run.fence.write_text("3\n")
        assert [type(r) for r in Threads(2).each(lambda g: checkpoint.commit(run, g, 5))] == [Superseded] * 2
        assert not (root / rundir.MANIFEST).exists()

    def test_a_file_that_one_rank_cannot_read_fails_the_save_on_all(self, run, monkeypatch):
        root = fake_save(run, 5, world=2)
        real = checkpoint.describe
        monkeypatch.setattr(
            checkpoint,
            "describe",
            lambda root, files, rank: real(root, files if rank == 0 else [root / "gone"], rank),
        )
        results = Threads(2).each(lambda g: checkpoint.commit(run, g, 5))
        assert all(isinstance(r, OSError) and "rank 1" in str(r) for r in results)
        assert not (root / rundir.MANIFEST).exists()

    def test_says_how_long_it_took_from_the_signal_of_whichever_rank_was_asked_first(self, run):
        root = fake_save(run, 5, world=3)
        asked = [None, time.monotonic() - 40, time.monotonic() - 7]
        Threads(3).each(lambda g: checkpoint.commit(run, g, 5, time.monotonic() - 2, asked[g.rank]))
        manifest = json.loads((root / rundir.MANIFEST).read_text())
        assert 40 <= manifest["signal_seconds"] < 60 and 2 <= manifest["seconds"] < 20

    def test_says_what_it_is_told_of_the_run(self, run):
        fake_save(run, 5)
        about = {"recipe": "dpo", "base_sha256": "b" * 64, "dataset_sha256": "d" * 64, "parallel": "ddp", "loss": 2.5}
        manifest = checkpoint.commit(run, Gang(), 5, more=about)
        assert manifest == manifest | about
        assert "signal_seconds" not in manifest

    def test_shards_are_hashed_by_the_rank_that_wrote_them(self, run):
        root = fake_save(run, 5, world=2)
        for part in ("pytorch_model_fsdp_0", "optimizer_0"):
            (root / part).mkdir()
            (root / part / ".metadata").write_bytes(b"m")
            for rank in (0, 1):
                (root / part / f"__{rank}_0.distcp").write_bytes(b"shard %d" % rank)
        Threads(2).each(lambda g: checkpoint.commit(run, g, 5))
        manifest = json.loads((root / rundir.MANIFEST).read_text())
        ranks = {f["path"]: f["rank"] for f in manifest["files"]}
        assert ranks["optimizer_0/__1_0.distcp"] == 1 and ranks["pytorch_model_fsdp_0/__0_0.distcp"] == 0
        assert ranks["optimizer_0/.metadata"] == 0
        assert manifest["any_world_size"] is True

    @pytest.mark.parametrize("name", ["zero_pp_rank_0_mp_rank_00_model_states.pt", "optimizer_rank1.bin"])
    def test_files_that_only_as_many_ranks_can_read_make_no_promise(self, run, name):
        (fake_save(run, 5) / name).write_bytes(b"x")
        assert "any_world_size" not in checkpoint.commit(run, Gang(), 5)


def save(run: RunDir, *steps: int, loss: dict[int, float] | None = None) -> None:
    for step in steps:
        fake_save(run, step)
        checkpoint.commit(run, Gang(), step, more={"loss": loss[step]} if loss else {})


def stay(run: RunDir) -> list[int]:
    return sorted(int(p.name.split("-")[1]) for p in run.checkpoints.iterdir())


class TestRetention:
    def test_keeps_the_newest_durable_ones_and_at_least_two(self, run):
        save(run, 5, 10, 15, 20)
        fake_save(run, 25)  # torn: no manifest; must not push out a good one
        assert keep.retain(run, keep.Rules(3)) == [5]
        assert keep.retain(run, keep.Rules(0)) == [10]
        assert stay(run) == [15, 20, 25]

    def test_what_is_removed_loses_its_manifest_first(self, run, monkeypatch):
        save(run, 5, 10, 15)
        monkeypatch.setattr(checkpoint.shutil, "rmtree", lambda root, **_: None)  # killed right here
        keep.retain(run, keep.Rules(2))
        assert (checkpoint.directory(run, 5) / "adapter_model.safetensors").exists()
        assert not (checkpoint.directory(run, 5) / rundir.MANIFEST).exists()

    def test_keeps_the_best_and_every_so_many_steps_beside_the_newest(self, run):
        save(run, *range(5, 45, 5), loss={5: 4, 10: 3, 15: 1.5, 20: 2, 25: 2, 30: 2, 35: 2, 40: 2})
        assert keep.retain(run, keep.Rules(2, every=20, best=True)) == [5, 10, 25, 30]
        assert stay(run) == [15, 20, 35, 40]

    def test_a_better_one_takes_the_place_of_the_best_and_the_newer_of_equal_ones(self, run):
        rules = keep.Rules(2, best=True)
        assert rules.keeps({5: 1.0, 10: 3.0, 15: 3.0, 20: 3.0}) == {5, 15, 20}
        assert rules.keeps({5: 1.0, 10: 0.5, 15: 3.0, 20: 3.0}) == {10, 15, 20}
        assert rules.keeps({5: 1.0, 10: 1.0, 15: 3.0, 20: 3.0}) == {10, 15, 20}
        assert rules.keeps({5: None, 10: None, 15: None}) == {10, 15}

    def test_rules_come_from_the_parameters(self):
        params = {"checkpoint.keep_last": 4, "checkpoint.keep_every": 100, "checkpoint.keep_best": "loss"}
        assert keep.Rules.of(params) == keep.Rules(4, 100, True)


class TestGoingBack:
    def test_to_the_newest_that_is_whole_and_what_is_torn_above_it_goes(self, run):
        save(run, 5, 10, 15)
        fake_save(run, 20)  # no manifest
        (checkpoint.directory(run, 15) / "adapter_model.safetensors").write_bytes(b"weightz" * 15)  # same size
        assert keep.go_back(run) == checkpoint.directory(run, 10)
        assert stay(run) == [5, 10]

    def test_to_what_the_attempt_resumed_from_when_it_has_none_itself(self, run):
        fake_save(run, 5)
        assert keep.go_back(run) is None
        assert stay(run) == []

    def test_behind_the_fence_nothing_is_touched_and_all_ranks_end(self, run):
        save(run, 5)
        fake_save(run, 10)
        run.fence.write_text("3\n")
        assert [type(r) for r in Threads(2).each(lambda g: keep.go_back_together(run, g))] == [Superseded] * 2
        assert stay(run) == [5, 10]


class TestFullDisk:
    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
    def test_on_one_rank_fails_the_save_on_all_and_leaves_nothing_torn(self, run, number):
        save(run, 5)
        fake_save(run, 10, world=2)
        errors = [None, OSError(number, os.strerror(number))]
        results = Threads(2).each(lambda g: checkpoint.commit(run, g, 10, failed=errors[g.rank]))
        assert [type(r) for r in results] == [DiskFull] * 2
        assert "step 10" in str(results[0]) and f"rank 1: [Errno {number}]" in str(results[0])
        assert stay(run) == [5] and keep.whole(checkpoint.directory(run, 5))

    def test_another_error_of_the_filesystem_is_none(self, run):
        fake_save(run, 10)
        with pytest.raises(OSError, match="Input/output"):
            checkpoint.commit(run, Gang(), 10, failed=OSError(errno.EIO, os.strerror(errno.EIO)))

    def test_is_recognised_in_what_torch_and_safetensors_say_of_a_disk_that_is_full(self, small_disk):
        import torch
        from safetensors.torch import save_file

        with pytest.raises(BaseException) as by_torch:
            torch.save({"x": torch.zeros(4 << 20)}, small_disk / "optimizer.pt")
        assert disk.is_full(disk.of_write(by_torch.value, small_disk)), repr(by_torch.value)
        (small_disk / "optimizer.pt").unlink()
        with pytest.raises(BaseException) as by_safetensors:
            save_file({"x": torch.zeros(4 << 20)}, small_disk / "model.safetensors")
        assert disk.is_full(disk.of_write(by_safetensors.value, small_disk)), repr(by_safetensors.value)

    def test_an_error_of_the_program_is_not_taken_for_one_of_the_disk(self, tmp_path):
        assert disk.of_write(RuntimeError("shape mismatch"), tmp_path) is None
        assert disk.of_write(KeyError("x"), tmp_path) is None

    def test_what_lacks_is_said_in_a_sentence(self, small_disk):
        assert disk.lack(small_disk, 1 << 20) == ""
        assert disk.lack(small_disk, 64 << 20) == f"64.0 MiB are needed and 8.0 MiB are free in {small_disk}"
        assert disk.lack(Path("/nowhere"), 1) == ""
