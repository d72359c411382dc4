"""suite fetch fills the cache that evals read, or says of each task why not; the hub is hub.py on this host."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from gang_of import SRC, Attempt
from hub import COMMIT, Hub
from test_evaluate import config, found, values

from forge_train.outcome import NODE_ENV, OK

DEFAULT = ("hellaswag", "arc_challenge", "winogrande", "piqa")


@pytest.fixture
def hub():
    with Hub() as h:
        yield h


@pytest.fixture
def home(tmp_path) -> Path:
    """HF_HOME, seen by who fetches and by evals."""
    return tmp_path / "hf"


def begin(endpoint: str, home: Path, tasks: tuple[str, ...]) -> subprocess.Popen:
    """As forgectl starts it, in a profile that says offline to everybody."""
    env = {k: v for k, v in os.environ.items() if not k.upper().endswith("_PROXY") and k != "HF_TOKEN"}
    env |= {"PYTHONPATH": str(SRC), "HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    env |= {"HF_HUB_DOWNLOAD_TIMEOUT": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "forge_train.suite_fetch", ",".join(tasks)]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def fetched(endpoint: str, home: Path, tasks: tuple[str, ...] = DEFAULT) -> tuple[int, str, str]:
    p = begin(endpoint, home, tasks)
    out, err = p.communicate(timeout=300)
    return p.returncode, out, err


def evaluated(attempt, tiny, home: Path) -> Attempt:
    a = attempt(config(tiny, "default"))
    a.extra = {"HF_HOME": str(home)}
    return a.start(new_interpreter=True)


@pytest.mark.parametrize(
    ("endpoint", "says"),
    [
        ("http://127.0.0.1:{port}", "127.0.0.1:{port} cannot be reached from this host"),
        ("http://hub.invalid", "hub.invalid:80 cannot be reached from this host"),
        ("hub.example.org", "HF_ENDPOINT is 'hub.example.org': want the address of a hub"),
    ],
)
def test_no_way_to_the_hub_is_said_at_once(endpoint, says, home):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound and not listening: refused
        port = nobody.getsockname()[1]
        code, out, err = fetched(endpoint.format(port=port), home)
    assert (code, out) == (1, "") and says.format(port=port) in err and "set HF_ENDPOINT to a mirror" in err
    assert not home.exists(), "no library was loaded, nothing was begun"


@pytest.mark.training
@pytest.mark.long
def test_what_a_fetch_brings_is_what_an_eval_runs_on_without_network(hub, home, tiny, attempt):
    hub.faults = {"Rowan/hellaswag": "gated", "allenai/ai2_arc": "hangs", "allenai/winogrande": "breaks off", "skg/toxigen-data": "broken"}
    code, out, err = fetched(hub.endpoint, home, (*DEFAULT, "toxigen", "crows_pairs_english"))
    said = {line.split()[1].rstrip(":"): line for line in err.splitlines() if line.startswith("[")}
    for task, dataset, why in [
        ("hellaswag", "Rowan/hellaswag", "it is gated). Ask for access at"),
        ("arc_challenge", "allenai/ai2_arc (ARC-Challenge)", "does not answer. Fetch again later"),
        ("winogrande", "allenai/winogrande (winogrande_xl)", "broke off. Fetch again"),
        ("toxigen", "skg/toxigen-data (annotated)", "answers 500. Fetch again later"),
        ("crows_pairs_english", "jannalu/crows_pairs_multilingual (english)", "has no such dataset, or not for this account"),
    ]:
        assert f"dataset {dataset}: {hub.endpoint}" in said[task] and why in said[task], err
    assert code == 1 and "5 of 6 tasks were not fetched" in err and len(said) == 5
    assert "[4/6] piqa: baber/piqa\n[4/6] piqa: 5 samples are in the cache\n" in out

    half = evaluated(attempt, tiny, home)
    assert half.wait() == [NODE_ENV], half.logs()
    assert "the data of task hellaswag is not in this node's cache" in half.status()["message"] and "suite fetch default" in half.status()["message"]

    hub.faults, hub.asked = {}, []
    code, out, err = fetched(hub.endpoint, home)
    assert code == 0, err
    for i, (task, dataset, n) in enumerate(
        [("hellaswag", "Rowan/hellaswag", 5), ("arc_challenge", "allenai/ai2_arc (ARC-Challenge)", 6), ("winogrande", "allenai/winogrande (winogrande_xl)", 5)], 1
    ):
        assert f"[{i}/4] {task}: {dataset}\n[{i}/4] {task}: {n} samples are in the cache\n" in out
    assert not [a for a in hub.asked if "baber/piqa" in a and ".parquet" in a], "what is there is not brought again"

    hub.__exit__()  # no network any more
    whole = evaluated(attempt, tiny, home)
    assert whole.wait() == [OK], whole.logs()
    assert set(values(found(whole))) >= {("hellaswag", "acc_norm", "none"), ("arc_challenge", "acc_norm", "none"), ("winogrande", "acc", "none")}
    assert found(whole)["samples"]["count"] == 5 + 6 + 5 + 5


@pytest.mark.training
@pytest.mark.long
def test_a_fetch_that_is_killed_leaves_nothing_that_counts(hub, home, tiny, attempt):
    hub.faults = {"allenai/ai2_arc": "stalls"}
    p = begin(hub.endpoint, home, DEFAULT)
    until = time.monotonic() + 200
    while not (left := list(home.glob("datasets/*/ARC-Challenge/*/*.incomplete"))) or not any("train-" in a and "GET" in a for a in hub.asked):
        assert time.monotonic() < until and p.poll() is None, p.communicate()
        time.sleep(0.05)
    p.send_signal(signal.SIGKILL)
    p.communicate(timeout=30)
    a = evaluated(attempt, tiny, home)
    assert a.wait() == [NODE_ENV] and "task arc_challenge is not in this node's cache" in a.status()["message"], a.logs()

    older = left[0].with_name("0" * 40 + ".incomplete")  # of a revision that nobody will fetch again
    older.mkdir()
    hub.faults = {}
    code, out, err = fetched(hub.endpoint, home, ("arc_challenge",))
    assert code == 0, err
    assert [d.name for d in older.parent.iterdir() if d.is_dir()] == [COMMIT]
    info = json.loads((older.parent / COMMIT / "dataset_info.json").read_text())
    assert {name: s["num_examples"] for name, s in info["splits"].items()} == {"train": 4, "validation": 5, "test": 6}

    hub.commit, hub.faults = "0ddba11" * 5 + "00000", {"allenai/ai2_arc": "lists nothing"}
    code, out, err = fetched(hub.endpoint, home, ("arc_challenge",))
    assert code == 1 and "what the cache holds is older than its revision 0ddba110ddba" in err, "datasets takes the older copy in silence"
