"""Both locks are held against the one place where the supported range stands, forge_train/environment.py."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(HERE.parents[1] / "recipes" / "python" / "src"))

from forge_train.environment import EVALS, SUPPORTED, release  # noqa: E402


def pinned(lock: str, name: str) -> list[str]:
    """The versions of a package; a lock for several Pythons may have several."""
    return re.findall(rf"^{name}==([^ ;]+)", (HERE / lock).read_text(), re.MULTILINE)


@pytest.mark.parametrize("name", SUPPORTED)
def test_the_lowest_lock_has_the_lower_end_of_the_range_and_nothing_else(name):
    assert {release(v) for v in pinned("lowest.lock", name)} == {release(SUPPORTED[name][0])}


@pytest.mark.parametrize("name", SUPPORTED)
def test_the_lock_lies_in_the_range_and_above_its_lower_end_where_there_is_more(name):
    low, high = map(release, SUPPORTED[name])
    versions = [release(v) for v in pinned("requirements.lock", name)]
    assert versions and all(low <= v < high for v in versions)
    assert max(versions) > low, "both ends are the same, so that one of them is not tried"


@pytest.mark.parametrize("lock", ["requirements.lock", "lowest.lock"])
@pytest.mark.parametrize("name", EVALS)
def test_evals_run_in_both(name, lock):
    low, high = map(release, EVALS[name])
    versions = [release(v) for v in pinned(lock, name)]
    assert versions and all(low <= v < high for v in versions)


def test_what_is_looked_for_is_what_is_supported():
    wanted = {w for w in (HERE / "requirements.in").read_text().splitlines() if w and not w.startswith("#")}
    assert wanted == set(SUPPORTED) | set(EVALS)


@pytest.mark.parametrize("lock", ["requirements.lock", "lowest.lock"])
def test_every_package_of_a_lock_has_hashes_and_what_the_tests_need_is_in_it(lock):
    entries = re.split(r"^(?=[a-z0-9])", (HERE / lock).read_text(), flags=re.MULTILINE)[1:]
    assert [e.split()[0] for e in entries if "--hash=sha256:" not in e] == []
    for name in ("pytest", "pyyaml", "tensorboard"):
        assert pinned(lock, name)
