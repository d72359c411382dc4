"""Our PPO learns what the trainer learns that TRL had until 1.12 (ADR 0018)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import configuration
from gang_of import SRC, curve

pytestmark = [pytest.mark.training, pytest.mark.long]
HERE = Path(__file__).parent
INSTALL = SRC.parents[2] / "contrib" / "python-env" / "install"
PROMPTS = SRC.parent / "data" / "support_prompts.jsonl"
PARAMS = {k.replace(".", "__"): v for k, v in json.loads((HERE / "fidelity_ppo.json").read_text()).items()}
EQUAL = {
    "objective/scores": "objective/scores",
    "objective/rlhf_reward": "objective/rlhf_reward",
    "objective/non_score_reward": "objective/non_score_reward",
    "loss/policy_avg": "loss/policy_avg",
    "loss/value_avg": "loss/value_avg",
    "policy/clipfrac_avg": "policy/clipfrac_avg",
    "val/clipfrac_avg": "val/clipfrac_avg",
    "learning_rate": "lr",
    "episode": "episode",
}


@pytest.fixture(scope="module")
def trl() -> Path:
    """TRL 1.12 in a directory of its own."""
    out = subprocess.run([INSTALL, "--trl-ppo"], capture_output=True, text=True, timeout=300, check=True)
    return Path(out.stdout.strip())


@pytest.fixture
def texts(tmp_path) -> Path:
    """The prompts as texts, so that nothing but the tokenizer's end token ends an answer: TRL's penalty knows no other."""
    path = tmp_path / "texts.jsonl"
    rows = [json.loads(line)["prompt"][-1]["content"] for line in PROMPTS.read_text().splitlines()]
    path.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in rows))
    return path


# as many steps as the dataset has updates: in a second pass the script gives the prompts in the order of the first
@pytest.mark.parametrize(
    ("steps", "own", "theirs"),
    [
        (12, {}, {}),
        (6, {"ppo__kl_estimator": "k3", "ppo__missing_eos_penalty": 1.0}, {"kl_estimator": "k3", "missing_eos_penalty": 1.0}),
        (
            3,
            {"train__batch_size": 8, "ppo__rollout_batch_size": 16, "ppo__whiten_rewards": True, "ppo__gamma": 0.95},
            {"per_device_train_batch_size": 8, "local_rollout_forward_batch_size": 16, "whiten_rewards": True, "gamma": 0.95},
        ),
    ],
    ids=["as it comes", "k3 and a penalty", "whitened and discounted"],
)
def test_every_updates_rewards_and_losses_are_those_of_the_bare_script(tiny, attempt, tmp_path, trl, texts, steps, own, theirs):
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    data = texts if "missing_eos_penalty" in theirs else PROMPTS
    bare = subprocess.run(
        [sys.executable, HERE / "bare_ppo.py", trl, tiny, data, tmp_path / "bare", str(steps), json.dumps(theirs)],
        env=env,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert bare.returncode == 0, bare.stderr
    expected = json.loads(bare.stdout.splitlines()[-1])
    a = attempt(configuration(tiny, data, "prompt", "rlhf", **PARAMS | {"train__max_steps": steps} | own))
    (a.dir / "work").mkdir()
    shutil.copy(HERE / "reward_last.py", a.dir / "work")
    assert a.start().wait() == [0], a.logs()
    got = curve(a)
    assert len(expected) == len(got) == steps
    assert len({line["loss/value_avg"] for line in expected}) == steps, "the bare script learns"
    for step, line in enumerate(expected, 1):
        for ours, name in EQUAL.items():
            assert got[step][ours] == pytest.approx(line[name], abs=1e-6), f"step {step}: {ours}"
