"""What runs hold in memory is still what it was when it was recorded: internal/footprint estimates by that record."""

from __future__ import annotations

import json
from importlib.metadata import version

import footprint_models
import pytest

RECORD = {r["name"]: r for r in json.loads(footprint_models.RECORD.read_text())}
NEWEST = int(version("trl").split(".")[1]) >= 16  # older ones have another output head
ALWAYS = ("weights", "adapters", "gradients", "optimizer", "reference")  # whatever the release


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=() if n == "sft_lora_llama" else pytest.mark.long) for n in footprint_models.CONFIGS],
)
def test_a_run_holds_what_was_recorded_part_by_part(tmp_path, name):
    held, was = footprint_models.measure(tmp_path, name)["held"], RECORD[name]["held"]
    for part in was if NEWEST else ALWAYS:
        assert held.get(part, 0) == pytest.approx(was.get(part, 0), rel=0.01, abs=4096), part
    shape = RECORD[name]["shape"]
    numbers = 2 * shape["layers"] * shape["kv_heads"] * shape["head_dim"] * held["cache_tokens"] if "cache_tokens" in held else 0
    assert held.get("kv_cache", 0) == numbers * held.get("cache_bytes", 0)


def test_every_run_is_on_record():
    assert set(footprint_models.CONFIGS) <= set(RECORD)
