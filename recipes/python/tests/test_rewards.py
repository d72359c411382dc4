"""Rewards that are none end a run before it starts, or at the answer that they were asked about, by function, row and value."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import PROMPTS, configuration, of_recipe
from gang_of import SRC, Attempt
from threads import Threads

from forge_train import builtin_rewards, prompts, reward_model, rewards, rlhf, rows
from forge_train.outcome import BadInput
from forge_train.params import read_params
from forge_train.rewards import Rewards, Rollout

BATCH = Rollout(
    prompt=["q0", "q1", "q2"],
    completion=["a", "b b", ""],
    prompt_ids=[[1], [2], [3]],
    completion_ids=[[4], [5, 6], []],
    row=[{"topic": "x"}, {"topic": "y"}, {}],
    place=["/d.jsonl line 1", "/d.jsonl line 2", "/d.jsonl line 3"],
)
ALONE = SimpleNamespace(gather=lambda value: [value], device="cpu")


@pytest.fixture
def work(tmp_path):
    path = tmp_path / "work"
    path.mkdir()
    yield path
    for name in [n for n in sys.modules if n.startswith("forge_reward_")]:
        del sys.modules[name]
    if str(path) in sys.path:
        sys.path.remove(str(path))


def params(**given) -> dict:
    return read_params(rlhf.PARAMS, {k.replace("__", "."): v for k, v in given.items()})


def of(work: Path, source: str, functions: str = "judge.py:f", gang=ALONE, **given) -> Rewards:
    (work / "judge.py").write_text(source)
    run = SimpleNamespace(work=work)
    job = SimpleNamespace(
        params=params(rlhf__reward_functions=functions, **given),
        runtime=SimpleNamespace(run=run, gang=gang),
        config={},
        trust=False,
    )
    return Rewards(job, None, None)


def refused(act) -> str:
    with pytest.raises(BadInput) as e:
        act()
    return str(e.value)


class TestFunctions:
    def test_get_what_they_take_by_name_and_are_summed_by_their_weights(self, work):
        source = (
            "from mine import half\n"
            "def f(completions, topic): return [len(c) + (t == 'y') for c, t in zip(completions, topic)]\n"
            "def g(**all): assert sorted(all) == ['completion_ids', 'completions', 'prompts', 'topic']; return (half,) * 3\n"
        )
        (work / "mine.py").write_text("half = 0.5\n")
        asked = of(work, source, "judge.py:f, judge.py:g,builtin:length", rlhf__reward_weights="1, 2, -100")
        assert asked.names == ("f", "g", "length")
        assert asked.parts(BATCH) == {"f": [1, 4, 0], "g": [0.5] * 3, "length": [0.01, 0.02, 0]}
        assert asked.score(BATCH) == [1, 3, 1]

    def test_may_return_arrays_and_truths(self, work):
        source = "import numpy\ndef f(prompts): return numpy.ones(3)\ndef g(prompts): return [True, False, 1]"
        assert of(work, source, "judge.py:f,judge.py:g").score(BATCH) == [2, 1, 2]

    BAD = {
        "raises": ("def f(prompts):\n    return 1 / 0", ["raised ZeroDivisionError", "judge.py line 2", "row 0", "/d.jsonl line 1"]),
        "leaves the program": ("def f(prompts):\n    raise SystemExit(0)", ["raised SystemExit", "judge.py line 2"]),
        "is not a number": ("def f(prompts): return [1, float('nan'), 1]", ["returned nan", "row 1", "/d.jsonl line 2"]),
        "is infinite": ("def f(prompts): return [1, 1, float('-inf')]", ["returned -inf", "row 2", "/d.jsonl line 3"]),
        "is nothing": ("def f(prompts): return [None] * 3", ["returned None", "row 0", "finite number"]),
        "is a text": ("def f(prompts): return ['1'] * 3", ["returned '1'", "row 0"]),
        "is complex": ("def f(prompts): return [1j] * 3", ["returned 1j", "row 0"]),
        "too few": ("def f(prompts): return [1]", ["returned 1 numbers for 3 answers"]),
        "no list": ("def f(prompts): return 1", ["returned 1: want a list of 3 numbers"]),
        "takes something unknown": ("def f(prompts, foo): return [1]", ["raised TypeError", "foo"]),
    }

    @pytest.mark.parametrize("case", BAD)
    def test_that_return_no_reward_are_named_with_row_and_value(self, work, case):
        source, words = self.BAD[case]
        message = refused(lambda: of(work, source).score(BATCH))
        assert "reward function judge.py:f" in message
        for word in words:
            assert word in message

    HANGS = {
        "a loop": "while True: pass",
        "a loop that catches exceptions": "while True:\n        try: x = 1\n        except Exception: pass",
        "a loop that catches everything for a while": (
            "n = 0\n    while True:\n        try:\n            while True: pass\n"
            "        except BaseException:\n            n += 1\n            if n > 1: raise"
        ),
        "a sleep": "import time; time.sleep(1000)",
        "a regular expression": "import re; re.match('(a+)+$', 'a' * 40 + 'b')",
    }

    @pytest.mark.parametrize("case", HANGS)
    def test_that_hang_are_ended(self, work, case):
        asked = of(work, f"def f(prompts):\n    {self.HANGS[case]}", rlhf__reward_timeout=0.2)
        began = time.monotonic()
        message = refused(lambda: asked.score(BATCH))
        assert time.monotonic() - began < 10
        assert "judge.py:f took more than rlhf.reward_timeout = 0.2 s for 3 answers" in message and "judge.py line" in message
        assert signal.getitimer(signal.ITIMER_REAL)[0] == 0

    IMPORTS = {
        "raises": ("import json\nf = lambda **_: 1\nraise ValueError('no')", ["judge.py line 3", "ValueError: no"]),
        "lacks a package": ("import not_there\ndef f(): pass", ["judge.py line 1", "not_there"]),
        "hangs": ("def f(): pass\nwhile True: pass", ["importing its file took more than rlhf.reward_timeout"]),
        "is async": ("async def g(): pass\nf = g", ["is async"]),
        "has no such function once it is there": ("def f(): pass\ndel f", ["no function of this name"]),
    }

    @pytest.mark.parametrize("case", IMPORTS)
    def test_whose_file_cannot_be_imported_are_named_with_file_and_line(self, work, case):
        source, words = self.IMPORTS[case]
        message = refused(lambda: of(work, source, rlhf__reward_timeout=0.2))
        for word in ("judge.py:f", *words):
            assert word in message

    NAMES = {
        "no colon": ("judge", ["neither builtin:NAME nor FILE.py:FUNCTION"]),
        "an unknown one that is built in": ("builtin:lenght", ["no builtin:lenght", "json, length, no_repetition"]),
        "a file that is not there": ("other.py:f", ["no file other.py"]),
        "a file outside": ("../secret.py:f", ["no file ../secret.py"]),
        "a function that is not there": ("judge.py:foo", ["has no function foo", "it has f, length"]),
        "two of a name": ("judge.py:length,builtin:length", ["second reward called length"]),
        "a file that is no Python": ("broken.py:f", ["broken.py line 2 is not Python"]),
    }

    @pytest.mark.parametrize("case", NAMES)
    def test_that_are_not_there_are_refused_without_running_anything(self, work, case):
        functions, words = self.NAMES[case]
        (work / "judge.py").write_text("def f(): pass\ndef length(): pass\nraise SystemExit('it ran')")
        (work / "broken.py").write_text("x = 1\ndef f(:\n")
        (work.parent / "secret.py").write_text("def f(): pass")
        message = refused(lambda: rewards.wanted(params(rlhf__reward_functions=functions), work))
        for word in words:
            assert word in message

    def test_of_a_run_without_a_directory(self, tmp_path):
        message = refused(lambda: rewards.wanted(params(rlhf__reward_functions="judge.py:f"), tmp_path / "work"))
        assert "--workdir" in message

    @pytest.mark.parametrize(("given", "word"), [("1", "has 1 numbers and the run has 2"), ("1,x", "want numbers"), ("1,nan", "finite")])
    def test_whose_weights_do_not_fit(self, given, word):
        wanted = params(rlhf__reward_weights=given)
        assert word in refused(lambda: rewards.weights(wanted, ("a", "b")))

    def test_a_fault_of_one_rank_ends_all_of_them_with_the_same_words(self):
        def act(gang):
            def alone():
                if gang.rank == 1:
                    raise BadInput("row 3 is nan")

            return rewards.together(gang, alone)

        assert [str(e) for e in Threads(3).each(act)] == ["row 3 is nan"] * 3

    def test_the_built_in_ones(self):
        def ask(name, *texts):
            ids = [list(range(len(t))) for t in texts]
            return builtin_rewards.ALL[name](SimpleNamespace(completion=list(texts), completion_ids=ids))

        assert ask("length", "", "x" * 50) == [0, 0.5]
        assert ask("no_repetition", "a b c a b c a b c", "a b", "one two three four") == [3 / 7, 1, 1]
        assert ask("json", '{"a": 1}', "[1]", "1", "{", "[" * 100_000) == [1, 1, 0, 0, 0]


@pytest.mark.parametrize("algorithm", ["ppo", "grpo", "rloo"])
def test_a_run_without_any_reward_is_told_what_to_give(tmp_path, algorithm):
    message = refused(lambda: rewards.check({}, params(rlhf__algorithm=algorithm), tmp_path, tmp_path))
    assert "neither a reward model nor reward functions" in message and "--reward-model" in message
    assert "rlhf.reward_functions" in message
    if algorithm == "ppo":
        assert "grpo and rloo" in message


CONTRADICTIONS = {
    "split": ({"train__parallel": "fsdp"}, ["train.parallel is fsdp", "use ddp"]),
    "no room": ({"generation__max_new_tokens": 1024}, ["generation.max_new_tokens is 1024", "no prompt has room"]),
    "ppo with vllm": ({"generation__backend": "vllm"}, ["generation.backend is vllm", "use hf"]),
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_parameters_that_contradict_each_other(case):
    given, words = CONTRADICTIONS[case]
    message = refused(lambda: rlhf.check(params(**given)))
    for word in words:
        assert word in message


class TestRewardModel:
    """What is wrong with a directory is seen by its files alone."""

    @pytest.fixture
    def model(self, tiny, tmp_path):
        """A directory like a whole reward model's, as far as it is looked at."""
        path = tmp_path / "rm"
        shutil.copytree(tiny, path)
        (path / "config.json").write_text('{"architectures": ["LlamaForSequenceClassification"]}')
        write_tensors(path / "model.safetensors", {"score.weight": [1, 64], "model.norm.weight": [64]})
        return path

    @pytest.fixture
    def adapter(self, tiny, tmp_path):
        path = tmp_path / "adapter"
        shutil.copytree(tiny, path)
        (path / "model.safetensors").unlink()
        (path / "adapter_config.json").write_text('{"task_type": "SEQ_CLS"}')
        write_tensors(path / "adapter_model.safetensors", {"base_model.model.score.weight": [1, 64], "x.lora_A.weight": [8, 64]})
        return path

    def check(self, path, tiny, base=None):
        config = {"reward_model": {"path": str(path)} | ({"base": {"path": str(base)}} if base else {})}
        return reward_model.check(reward_model.paths(config), tiny)

    def test_whole_or_an_adapter_it_is_taken(self, model, adapter, tiny):
        self.check(model, tiny)
        self.check(adapter, tiny, tiny)

    def test_without_a_head_it_is_refused_by_what_says_so(self, model, adapter, tiny):
        message = refused(lambda: self.check(tiny, tiny))
        assert "no scoring head" in message and "LlamaForCausalLM" in message and "the recipe reward trains one" in message
        write_tensors(model / "model.safetensors", {"lm_head.weight": [512, 64]})
        assert "no weight score.weight or classifier.weight in model.safetensors" in refused(lambda: self.check(model, tiny))
        (adapter / "adapter_config.json").write_text('{"task_type": "CAUSAL_LM"}')
        assert "task_type in adapter_config.json is 'CAUSAL_LM'" in refused(lambda: self.check(adapter, tiny, tiny))
        (adapter / "adapter_config.json").write_text('{"task_type": "SEQ_CLS"}')
        write_tensors(adapter / "adapter_model.safetensors", {"base_model.model.score.lora_A.weight": [8, 64]})
        assert "no scoring head" in refused(lambda: self.check(adapter, tiny, tiny))

    def test_a_head_of_several_outputs(self, model, tiny):
        write_tensors(model / "model.safetensors", {"score.weight": [3, 64]})
        assert "score.weight has 3 outputs, want 1" in refused(lambda: self.check(model, tiny))

    def test_of_another_vocabulary(self, model, tiny):
        file = model / "tokenizer.json"
        data = json.loads(file.read_text())
        words = {i: t for t, i in data["model"]["vocab"].items()}
        data["model"]["vocab"] = {("other" if i == 300 else t): i for i, t in words.items()}
        file.write_text(json.dumps(data))
        message = refused(lambda: self.check(model, tiny))
        assert "another vocabulary than the policy" in message and f"the first that differs is 300, 'other' there and {words[300]!r}" in message
        assert "Train a reward model on the same base model" in message

    def test_torn_or_not_there(self, model, adapter, tiny, tmp_path):
        assert "is not a directory" in refused(lambda: self.check(tmp_path / "nowhere", tiny))
        assert "names no base model" in refused(lambda: self.check(adapter, tiny))
        assert "its base model /nowhere" in refused(lambda: self.check(adapter, tiny, "/nowhere"))
        (model / "model.safetensors").write_bytes(b"torn")
        assert "model.safetensors is no whole safetensors file" in refused(lambda: self.check(model, tiny))
        (model / "model.safetensors").unlink()
        assert "has no weights" in refused(lambda: self.check(model, tiny))
        assert "no absolute path" in refused(lambda: self.check("rm", tiny))

    def test_all_of_it_needs_the_standard_library_alone(self, model, tiny):
        code = (
            "import sys; from pathlib import Path; from forge_train import reward_model as r\n"
            f"r.check(r.paths({{'reward_model': {{'path': {str(model)!r}}}}}), Path({str(tiny)!r}))\n"
            "print([m for m in ('torch', 'numpy', 'transformers') if m in sys.modules])"
        )
        done = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(SRC)}, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "[]"


def write_tensors(path: Path, shapes: dict[str, list[int]]) -> None:
    """A safetensors file of zeros."""
    header, end = {}, 0
    for name, shape in shapes.items():
        size = 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(end))


PROMPT_ROWS = {
    "an empty text": ({"prompt": " "}, "prompt is empty"),
    "a prompt that is missing": ({"question": "a"}, "column prompt is missing"),
    "an assistant with the last word": ({"prompt": [{"role": "assistant", "content": "a"}]}, "ends with the role 'assistant'"),
    "an empty last turn": ({"prompt": [{"role": "user", "content": ""}]}, "the last turn of prompt is empty"),
}


@pytest.mark.parametrize("case", PROMPT_ROWS)
def test_prompts_that_ask_nothing(tmp_path, case):
    row, word = PROMPT_ROWS[case]
    path = tmp_path / "p.jsonl"
    good = {"prompt": [{"role": "user", "content": "a"}] if isinstance(row.get("prompt"), list) else "a"}
    path.write_text(json.dumps(good) + "\n" + json.dumps(row) + "\n")
    message = refused(lambda: rows.inspect(path, "prompt", ("prompt",)))
    assert word in message and f"{path} line 2" in message


def test_what_else_a_prompts_row_has_goes_with_it(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text('{"prompt": "a", "topic": ["x", {"y": 1}]}\n\n{"prompt": "b"}\n')
    seen = rows.inspect(path, "", ("prompt",))
    read = list(seen.read())
    assert [json.loads(r["row"]) for r in read] == [{"topic": ["x", {"y": 1}]}, {}]
    assert [r["place"] for r in read] == [f"{path} line 1", f"{path} line 3"]
    assert list(seen.to_dataset()) == read


@pytest.mark.parametrize(("contexts", "most"), [((0,), 96), ((256,), 96), ((100, 0), 68), ((300, 90), 58)])
def test_how_long_a_prompt_may_be(contexts, most):
    assert prompts.longest(params(train__max_length=128, generation__max_new_tokens=32), *contexts)[0] == most


# What only a run can show.


def ends(attempt, config: dict, judge: str = "", world: int = 1) -> str:
    a = attempt(config, world)
    if judge:
        (a.dir / "work").mkdir()
        (a.dir / "work" / "judge.py").write_text(judge)
    assert a.start().wait() == [87] * world, a.logs()
    assert a.status()["reason"] == "bad_input" and not list(a.output.iterdir())
    return a.status()["message"]


SHORT = {
    "rlhf__algorithm": "grpo",
    "rlhf__num_generations": 2,
    "generation__max_new_tokens": 8,
    "train__max_steps": 2,
    "train__batch_size": 4,
}


@pytest.mark.training
def test_a_reward_that_becomes_none_ends_the_run_and_names_the_rows_line(tiny, attempt):
    judge = "calls = 0\ndef f(prompts):\n    global calls\n    calls += 1\n    return [0, 0, 0, 1 if calls < 2 else float('nan')]"
    message = ends(attempt, of_recipe("rlhf", tiny, **SHORT, rlhf__reward_functions="judge.py:f"), judge)
    assert "reward function judge.py:f returned nan for row 3 of the batch" in message and f"{PROMPTS} line " in message


@pytest.mark.training
def test_a_reward_that_hangs_on_one_of_two_ranks_ends_both_as_bad_input(tiny, attempt):
    judge = "import os\ndef f(prompts):\n    while os.environ['RANK'] == '1': pass\n    return [0] * len(prompts)"
    config = of_recipe("rlhf", tiny, **SHORT, rlhf__reward_functions="judge.py:f", rlhf__reward_timeout=0.5)
    assert "judge.py:f took more than rlhf.reward_timeout = 0.5 s" in ends(attempt, config, judge, 2)


@pytest.mark.training
@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"generation__max_new_tokens": 240, "train__max_length": 512}, ["max_position_embeddings of the model = 256", "may have 16", " line 1:"]),
        ({"rlhf__num_generations": 3}, ["a step has 4 answers", "no multiple of rlhf.num_generations = 3"]),
        ({"train__batch_size": 200}, ["a step takes 100 prompts", "the dataset has 60"]),
        ({"generation__backend": "vllm"}, ["generation.backend is vllm, which needs a GPU", "generation.backend=hf"]),
        ({"rlhf__reward_functions": ""}, ["neither a reward model nor reward functions"]),
    ],
)
def test_what_a_run_cannot_start_with(tiny, attempt, extra, words):
    message = ends(attempt, of_recipe("rlhf", tiny, **SHORT | {"rlhf__reward_functions": "builtin:length"} | extra))
    for word in words:
        assert word in message


@pytest.mark.training
@pytest.mark.parametrize("peft", ["lora", pytest.param("none", marks=pytest.mark.long)])
def test_a_reward_model_scores_what_it_was_trained_on_as_it_was_trained(tiny, attempt, tmp_path, peft):
    """The recipe reward trains it; the policy's answers get the number that transformers gives to the same text."""
    rate = {"train__learning_rate": 1e-2 if peft == "lora" else 1e-4}
    trained = Attempt(tmp_path / "reward", 1, of_recipe("reward", tiny, train__max_steps=4, peft=peft, **rate))
    assert trained.start().wait() == [0], trained.logs()
    config = of_recipe("rlhf", tiny, **SHORT, rlhf__reward_functions="builtin:length", rlhf__samples_every=1)
    config["reward_model"] = {"name": "judge@1", "path": str(trained.output)}
    if peft == "lora":
        config["reward_model"]["base"] = {"path": str(tiny)}
    a = attempt(config).start()
    assert a.wait() == [0], a.logs()
    values = a.metrics()[0]["values"]
    assert {"rewards/model/mean", "rewards/model/std", "rewards/length/mean"} <= set(values)
    assert values["reward"] == pytest.approx(values["rewards/model/mean"] + values["rewards/length/mean"], abs=1e-5)
    expected = scored(trained.output, tiny, [json.loads(line) for line in (a.dir / "samples.jsonl").read_text().splitlines()], peft)
    assert expected


def scored(path: Path, tiny: Path, kept: list[dict], peft: str) -> bool:
    from peft import AutoPeftModelForSequenceClassification
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    os.environ["HF_HUB_OFFLINE"] = "1"
    kind = AutoPeftModelForSequenceClassification if peft == "lora" else AutoModelForSequenceClassification
    model, tokenizer = kind.from_pretrained(path, num_labels=1), AutoTokenizer.from_pretrained(path)
    for row in kept:
        talk = [dict(zip(("role", "content"), line.split(": ", 1))) for line in row["prompt"].splitlines()]
        talk.append({"role": "assistant", "content": row["completion"]})
        ids = tokenizer.apply_chat_template(talk, tokenize=True, return_dict=True, return_tensors="pt")
        assert model(**ids).logits.item() == pytest.approx(row["rewards"]["model"], abs=1e-4)
    return True


@pytest.mark.training
def test_prompts_that_are_texts(tiny, attempt, tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"My router {i} "}) + "\n" for i in range(4)))
    a = attempt(configuration(tiny, path, "prompt", "rlhf", **SHORT, rlhf__reward_functions="builtin:length")).start()
    assert a.wait() == [0], a.logs()
    assert '"prompt": "My router ' in (a.dir / "samples.jsonl").read_text()


def test_vllm_on_a_gpu_without_it_is_refused_with_what_to_install():
    on_gpu = SimpleNamespace(params={"generation.backend": "vllm"}, runtime=SimpleNamespace(gang=SimpleNamespace(device="cuda:0")))
    with pytest.raises(BadInput, match=r"needs the package vllm, .*pip install 'trl\[vllm\]' .*generation\.backend=hf"):
        rlhf._check_backend(on_gpu)
