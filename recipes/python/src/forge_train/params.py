"""Parameters of a recipe: one table, checked before work starts.

forged has checked them against the recipe's YAML already. They are checked again because
a recipe file and this package may come from different versions, and because a parameter
that is silently ignored is worse than a run that does not start.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .outcome import BadInput


@dataclass(frozen=True)
class Param:
    """One parameter; low and high are inclusive."""

    name: str
    kind: type
    default: Any
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()

    def read(self, value: Any) -> Any:
        """Return the value in the parameter's type, or say why it is not one."""
        if self.kind is bool:
            ok = isinstance(value, bool)
        elif self.kind is int:
            # JSON has one kind of number: 8.0 is a whole number, True is not a number
            ok = _is_number(value) and value == int(value)
        elif self.kind is float:
            ok = _is_number(value)
        else:
            ok = isinstance(value, str)
        if not ok:
            raise BadInput(f"parameter {self.name} is {value!r}: want {_NAMES[self.kind]}")
        value = self.kind(value)
        if self.choices and value not in self.choices:
            raise BadInput(f"parameter {self.name} is {value!r}: allowed are {', '.join(self.choices)}")
        if self.low is not None and value < self.low or self.high is not None and value > self.high:
            raise BadInput(f"parameter {self.name} is {value}: allowed is {self.low:g} to {self.high:g}")
        return value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


def read_params(table: tuple[Param, ...], given: Mapping[str, Any]) -> dict[str, Any]:
    """Read every parameter of the table; refuse what the table does not know."""
    if not isinstance(given, Mapping):
        raise BadInput("params of the configuration: want an object of dotted names")
    known = {p.name: p for p in table}
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise BadInput(f"unknown parameter {', '.join(unknown)}; known are {', '.join(known)}")
    return {name: p.read(given.get(name, p.default)) for name, p in known.items()}
