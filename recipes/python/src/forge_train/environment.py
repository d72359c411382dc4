"""Which packages this code works with, stated once and checked before work starts.

The package pins nothing: people bring their own environments. So a node whose environment
does not do must say so by name at the start (exit 88, forge then tries another node), not
by an AttributeError an hour in.
"""

from __future__ import annotations

import hashlib
import platform
import re
import sys
from importlib import metadata
from pathlib import Path

from .outcome import NodeEnvironment

PYTHON = (3, 10)

# name: (lowest supported, first not supported). Both ends are tested: contrib/python-env has a lock
# of the newest releases and one of the lowest, and its tests hold them against this.
SUPPORTED = {
    "torch": ("2.14", "3"),
    "transformers": ("5.20", "6"),
    "trl": ("1.14", "2"),
    "peft": ("0.21", "1"),
    "accelerate": ("1.13", "2"),
    "datasets": ("4.8", "6"),
}
# What evals need beside it: training goes on without.
EVALS = {"lm-eval": ("0.4.13", "0.5")}


def check() -> dict[str, str]:
    """Return the versions found; raise NodeEnvironment naming everything that does not do."""
    wrong = []
    if sys.version_info[:2] < PYTHON:
        wrong.append(f"Python {platform.python_version()} (supported: {PYTHON[0]}.{PYTHON[1]} and newer)")
    found = {"python": platform.python_version()}
    for name, (low, high) in SUPPORTED.items():
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{name} is missing (supported: >={low},<{high})")
            continue
        found[name] = version
        if not release(low) <= release(version) < release(high):
            wrong.append(f"{name} {version} (supported: >={low},<{high})")
    if wrong:
        raise NodeEnvironment(
            f"the Python environment {sys.prefix} does not do: {'; '.join(wrong)}. "
            "contrib/python-env/install makes one that does"
        )
    return found


def release(version: str) -> tuple[int, ...]:
    """The numbers of a version without pre-release, post-release and build parts."""
    numbers = re.match(r"\d+(\.\d+)*", version)
    parts = [int(n) for n in numbers.group().split(".")] if numbers else []
    while parts and parts[-1] == 0:  # 3.0 and 3 are one version
        parts.pop()
    return tuple(parts)


def code_digest(root: Path = Path(__file__).resolve().parent.parent) -> str:
    """SHA-256 of this package, the same number as forge's recipes.PythonDigest.

    Over the .py files and everything in forge_train/suites, sorted by path relative to src/ ("forge_train/..."):
    the path in double quotes, the length in bytes, a newline, the content.
    """
    package = root / Path(__file__).resolve().parent.name
    digest = hashlib.sha256()
    suites = (p for p in (package / "suites").rglob("*") if p.is_file() and not p.name.startswith("."))
    for path in sorted({p.relative_to(root).as_posix() for p in (*package.rglob("*.py"), *suites)}):
        content = (root / path).read_bytes()
        digest.update(f'"{path}" {len(content)}\n'.encode() + content)
    return digest.hexdigest()
