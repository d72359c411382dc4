"""What an answer is worth: a reward model, reward functions, or both, each with its weight.

A function of the user's runs in this process, in the main thread, under an alarm (SIGALRM). A process of its own could be
killed whatever it does; but the random state of one in here is saved with the run's, so a reward that draws at random
resumes exactly, and nothing is pickled. What the alarm cannot end is a call into C that never comes back to Python: of that
forged sees that no step comes any more (limits.stall_timeout).
"""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import inspect
import math
import numbers
import re
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import builtin_rewards, reward_model
from .gang import Gang
from .outcome import BadInput, Ended

# of a reward in a metric's name: rewards/NAME/mean
_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_]{0,47}$")


@dataclass(frozen=True)
class Rollout:
    """What a policy wrote, on one rank; every field has one entry per answer."""

    prompt: list[Any]  # a text, or a list of messages
    completion: list[str]
    prompt_ids: list[list[int]]  # without padding
    completion_ids: list[list[int]]
    row: list[dict]  # the dataset's other columns
    place: list[str]  # where the prompt stands: file and line

    def __len__(self) -> int:
        return len(self.completion)


@dataclass(frozen=True)
class Wanted:
    """One reward function as the parameters name it."""

    name: str
    source: str  # as given
    file: Path | None = None  # None: a built-in one

    def at(self) -> str:
        return f"reward function {self.source}"


def wanted(params: Mapping[str, Any], work: Path) -> list[Wanted]:
    """The functions that rlhf.reward_functions names, as far as they can be judged without running them."""
    found: list[Wanted] = []
    for source in (s.strip() for s in params["rlhf.reward_functions"].split(",")):
        if not source:
            continue
        file, colon, name = source.rpartition(":")
        if not colon or not file:
            raise BadInput(f"rlhf.reward_functions: {source!r} is neither builtin:NAME nor FILE.py:FUNCTION")
        if file == "builtin":
            if name not in builtin_rewards.ALL:
                raise BadInput(
                    f"rlhf.reward_functions: there is no builtin:{name}; there are {', '.join(sorted(builtin_rewards.ALL))}"
                )
            one = Wanted(name, source)
        else:
            one = Wanted(name, source, _file(source, file, name, work))
        if any(o.name == one.name for o in found) or one.name == reward_model.NAME:
            raise BadInput(f"rlhf.reward_functions: {source} is the second reward called {one.name}; give it another name")
        found.append(one)
    return found


def _file(source: str, file: str, name: str, work: Path) -> Path:
    if not _NAME.match(name):
        raise BadInput(f"rlhf.reward_functions: {source}: {name!r} is no name of a function (at most 48 letters, digits and _)")
    if not work.is_dir():
        raise BadInput(
            f"rlhf.reward_functions names {source}, and this run brought no directory with it: submit it with --workdir DIR"
        )
    path = (work / file).resolve()
    if not path.is_relative_to(work.resolve()) or not path.is_file():
        raise BadInput(f"rlhf.reward_functions: {source}: there is no file {file} in the directory that the run brought")
    try:
        tree = ast.parse(path.read_bytes(), str(file))
    except (SyntaxError, ValueError) as e:
        raise BadInput(f"rlhf.reward_functions: {file} line {getattr(e, 'lineno', None) or 1} is not Python: {e}") from e
    names = {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}
    names |= {t.id for n in tree.body if isinstance(n, ast.Assign) for t in n.targets if isinstance(t, ast.Name)}
    names |= {a.asname or a.name for n in tree.body if isinstance(n, ast.ImportFrom) for a in n.names}
    if name not in names:
        there = ", ".join(sorted(n.name for n in tree.body if isinstance(n, ast.FunctionDef))) or "none"
        raise BadInput(f"rlhf.reward_functions: {file} has no function {name}; it has {there}")
    return path


def weights(params: Mapping[str, Any], names: tuple[str, ...]) -> tuple[float, ...]:
    """A factor for each reward."""
    given = [w.strip() for w in params["rlhf.reward_weights"].split(",") if w.strip()]
    if not given:
        return (1.0,) * len(names)
    try:
        factors = tuple(float(w) for w in given)
    except ValueError as e:
        raise BadInput(f"rlhf.reward_weights is {params['rlhf.reward_weights']!r}: want numbers, comma-separated") from e
    if len(factors) != len(names) or not all(map(math.isfinite, factors)):
        raise BadInput(
            f"rlhf.reward_weights has {len(factors)} numbers and the run has {len(names)} rewards ({', '.join(names)}): "
            "want one finite number for each, in this order"
        )
    return factors


def check(config: dict, params: Mapping[str, Any], base: Path, work: Path) -> None:
    """Refuse rewards that cannot work, before torch is imported."""
    functions = wanted(params, work)
    model = config.get("reward_model")
    if not functions and not model:
        words = "the run has neither a reward model nor reward functions"
        hint = "give it one: --reward-model NAME@VERSION, or --set rlhf.reward_functions=builtin:no_repetition or FILE.py:FUNCTION"
        if params["rlhf.algorithm"] == "ppo":
            raise BadInput(
                f"rlhf.algorithm is ppo, which learns from a reward, and {words}; {hint}. "
                "The other algorithms, grpo and rloo, take the same and need no value model"
            )
        raise BadInput(f"rlhf.algorithm is {params['rlhf.algorithm']}, and {words}; {hint}")
    if model:
        reward_model.check(reward_model.paths(config), base)
    weights(params, _names(model, functions))


def _names(model: object, functions: list[Wanted]) -> tuple[str, ...]:
    return ((reward_model.NAME,) if model else ()) + tuple(f.name for f in functions)


class Rewards:
    """All rewards of a run, ready to be asked."""

    def __init__(self, job, tokenizer, dtype):
        """Load the reward model and import the functions; job is a start.Job."""
        params, run = job.params, job.runtime.run
        self.gang: Gang = job.runtime.gang
        self.timeout: float = params["rlhf.reward_timeout"]
        functions = wanted(params, run.work)
        model = job.config.get("reward_model")
        self.names = _names(model, functions)
        self.weights = weights(params, self.names)
        self._sources = ([(reward_model.NAME, None)] if model else []) + [(f.at(), f) for f in functions]
        self.model: reward_model.RewardModel | None = None
        self._ask: list[Callable[[Rollout], list]] = []
        if model:
            device = self.gang.device
            self.model = reward_model.RewardModel(
                reward_model.paths(job.config), tokenizer, dtype, device, params["train.batch_size"], job.trust
            )
            self._ask.append(self.model.score)
        together(self.gang, lambda: self._ask.extend(_load(f, self.timeout, run.work) for f in functions))

    def parts(self, batch: Rollout) -> dict[str, list[float]]:
        """Each reward for each answer; ends the run, on every rank alike, when one is none."""
        found: dict[str, list[float]] = {}

        def ask() -> None:
            for name, (at, function), one in zip(self.names, self._sources, self._ask, strict=True):
                if function is None:
                    found[name] = _numbers("the reward model", one(batch), batch)
                else:
                    found[name] = _numbers(at, _call(at, one, batch, self.timeout, function.file), batch)

        together(self.gang, ask)
        return found

    def total(self, parts: Mapping[str, list[float]]) -> list[float]:
        """The weighted sum for each answer."""
        columns = [[w * v for v in parts[n]] for n, w in zip(self.names, self.weights, strict=True)]
        return [math.fsum(values) for values in zip(*columns, strict=True)]

    def score(self, batch: Rollout) -> list[float]:
        """What each answer is worth: the weighted sum of all rewards."""
        return self.total(self.parts(batch))


def together(gang: Gang, act: Callable[[], None]) -> None:
    """What one rank finds wrong ends all of them alike: alone, it would leave the others waiting for it."""
    said = ""
    try:
        act()
    except BadInput as e:
        said = str(e)
    first = next((s for s in gang.gather(said) if s), "")
    if first:
        raise BadInput(first)


class _Overdue(BaseException):
    """The alarm; no Exception, so that a function which catches those does not catch this."""


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raise _Overdue in here after so many seconds, and again every second after that."""

    def ring(number: int, frame: object) -> None:
        raise _Overdue

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _load(one: Wanted, timeout: float, work: Path) -> Callable[[Rollout], list]:
    if one.file is None:
        return builtin_rewards.ALL[one.name]
    name = "forge_reward_" + re.sub(r"\W", "_", str(one.file.relative_to(work.resolve())))
    module = sys.modules.get(name)
    if module is None:
        if str(work) not in sys.path:
            sys.path.insert(0, str(work))
        spec = importlib.util.spec_from_file_location(name, one.file)
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            with within(timeout):
                spec.loader.exec_module(module)
        except _Overdue as e:
            raise BadInput(f"{one.at()}: importing its file took more than rlhf.reward_timeout = {timeout:g} s") from e
        except Ended:
            raise
        except (Exception, SystemExit) as e:
            raise BadInput(f"{one.at()} cannot be imported: {_where(e, work)}: {_said(e)}") from e
    function = getattr(module, one.name, None)
    if not callable(function):
        raise BadInput(f"{one.at()}: its file has no function of this name once it is imported")
    if inspect.iscoroutinefunction(function):
        raise BadInput(f"{one.at()} is async; want a plain function")
    return lambda batch: function(**_arguments(function, batch))


def _arguments(function: Callable, batch: Rollout) -> dict[str, list]:
    """What a function is given, by name: those that it takes, or all where it has **kwargs."""
    columns = sorted({c for r in batch.row for c in r} - {"prompts", "completions", "completion_ids"})
    have: dict[str, list] = {c: [r.get(c) for r in batch.row] for c in columns}
    have |= {"prompts": list(batch.prompt), "completions": list(batch.completion)}
    have["completion_ids"] = [list(ids) for ids in batch.completion_ids]
    takes = inspect.signature(function).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in takes):
        return have
    named = {p.name for p in takes if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    return {n: v for n, v in have.items() if n in named}


def _call(at: str, ask: Callable[[Rollout], list], batch: Rollout, timeout: float, file: Path | None) -> list:
    try:
        with within(timeout):
            return ask(batch)
    except _Overdue as e:
        raise BadInput(
            f"{at} took more than rlhf.reward_timeout = {timeout:g} s for {len(batch)} answers, "
            f"the first to {_row(batch, 0)}: it was at {_where(e, file.parent if file else None)}"
        ) from e
    except (Exception, SystemExit) as e:
        raise BadInput(
            f"{at} raised {_said(e)} at {_where(e, file.parent if file else None)}, for {len(batch)} answers, "
            f"the first to {_row(batch, 0)}"
        ) from e


def _numbers(at: str, returned: object, batch: Rollout) -> list[float]:
    if hasattr(returned, "tolist"):  # an array or a tensor
        returned = returned.tolist()
    if not isinstance(returned, (list, tuple)):
        raise BadInput(f"{at} returned {_short(returned)}: want a list of {len(batch)} numbers, one for each answer")
    if len(returned) != len(batch):
        raise BadInput(f"{at} returned {len(returned)} numbers for {len(batch)} answers: want one for each")
    values = []
    for i, value in enumerate(returned):
        if hasattr(value, "item"):
            value = value.item()
        if not isinstance(value, numbers.Real) or not math.isfinite(value):
            raise BadInput(f"{at} returned {_short(value)} for {_row(batch, i)}: want a finite number")
        values.append(float(value))
    return values


def _row(batch: Rollout, i: int) -> str:
    return f"row {i} of the batch ({batch.place[i] or 'its place is not known'})"


def _where(error: BaseException, inside: Path | None) -> str:
    """File and line of the user's own code, as deep as it goes."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename} line {error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if inside and Path(f.filename).resolve().is_relative_to(inside.resolve())]
    frames = own or [f for f in frames if f.filename != __file__] or frames
    return f"{frames[-1].filename} line {frames[-1].lineno}" if frames else "an unknown place"


def _said(error: BaseException) -> str:
    return _short(f"{type(error).__name__}: {error}", quote=False)


def _short(value: object, quote: bool = True) -> str:
    try:
        text = repr(value) if quote else str(value)
    except Exception:
        text = f"a {type(value).__name__}"
    text = " ".join(text.split())
    return text if len(text) <= 200 else text[:197] + "..."
