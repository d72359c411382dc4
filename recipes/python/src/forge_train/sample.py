"""A bounded sample of a dataset's rows, with where they stand.

The first row, the last one, and between them rows at evenly spaced places and at places drawn with a seed: the same
dataset gives the same sample. Of large files nothing is read but what lies around those places.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from . import formats

WHOLE = 4 << 20  # a dataset up to this many bytes is looked at row by row
LONGEST = 16 << 20  # of a row, as internal/dataset has it
COUNTED = 1 << 30  # a line's number is counted up to here
LOOKED = 20_000  # rows of files in which one cannot seek
SECONDS = 5  # of looking at those


class Place:
    """Where a row begins."""

    def __init__(self, path: Path, offset: int, line: int = 0):
        self.path, self.offset, self.line = path, offset, line

    def __str__(self) -> str:
        if not self.line and self.offset <= COUNTED:
            self.line = 1 + _newlines(self.path, self.offset)
        return f"{self.path} line {self.line}" if self.line else f"{self.path} at byte {self.offset}"


def _newlines(path: Path, end: int) -> int:
    count = 0
    with open(path, "rb") as f:
        while end > 0 and (chunk := f.read(min(end, 1 << 20))):
            count += chunk.count(b"\n")
            end -= len(chunk)
    return count


def rows(
    files: tuple[Path, ...], most: int, layout: formats.Layout = formats.Layout()
) -> Iterator[tuple[Place | str, dict]]:
    """At most so many rows, those first that say most: the first, the last, then the rest in a mixed order."""
    if not layout.lines or any(formats.compressed(f) for f in files):
        yield from _drawn(files, most, layout)
        return
    total = sum(f.stat().st_size for f in files)
    found = _all(files, most) if total <= WHOLE else _some(files, total, most)
    for place, line in found:
        try:
            row = json.loads(line)
        except ValueError:
            continue  # changed since registration, which the rank will refuse
        if isinstance(row, dict):
            yield place, layout.applied(str(place), row)


def _drawn(files: tuple[Path, ...], most: int, layout: formats.Layout) -> list[tuple[str, dict]]:
    """Drawn from the front, as far as there is time: each row there is as likely as any other."""
    drawn, kept, last, until = random.Random(0), [], None, time.monotonic() + SECONDS
    for n, found in enumerate(islice(formats.read(files, layout), LOOKED)):
        last = found
        if len(kept) < most - 1:
            kept.append(found)
        elif (at := drawn.randrange(1, n + 1)) < most - 1:
            kept[at] = found
        if time.monotonic() > until:
            break
    if last is not None and all(k is not last for k in kept):
        kept.append(last)
    return [*kept[:1], *kept[:0:-1]]


def _all(files: tuple[Path, ...], most: int) -> list[tuple[Place, bytes]]:
    every = []
    for path in files:
        offset = 0
        with open(path, "rb") as f:
            for number, line in enumerate(f, 1):
                if line.strip():
                    every.append((Place(path, offset, number), line))
                offset += len(line)
    if len(every) <= 2:
        return every
    between = every[1:-1]
    random.Random(0).shuffle(between)
    return [every[0], every[-1], *between[: max(0, most - 2)]]


def _some(files: tuple[Path, ...], total: int, most: int) -> Iterator[tuple[Place, bytes]]:
    offsets = [total * i // (most // 2) for i in range(1, most // 2)]
    drawn = random.Random(0)
    offsets += [drawn.randrange(total) for _ in range(most - 2 - len(offsets))]
    drawn.shuffle(offsets)
    seen = set()
    for offset in [0, total, *offsets]:
        found = _last(files[-1]) if offset == total else _after(files, offset)
        if found is None:
            continue
        key = (found[0].path, found[0].offset)
        if key not in seen:
            seen.add(key)
            yield found


def _after(files: tuple[Path, ...], offset: int) -> tuple[Place, bytes] | None:
    """The row that begins at or after an offset into all files together.

    What lies at the offset is rather a long row than a short one; the one after it is any.
    """
    for path in files:
        size = path.stat().st_size
        if offset >= size:
            offset -= size
            continue
        with open(path, "rb") as f:
            if offset > 0:
                f.seek(offset - 1)
                f.readline(LONGEST)
            for _ in range(100):  # blank lines
                at = f.tell()
                line = f.readline(LONGEST)
                if not line:
                    return None
                if line.strip():
                    return Place(path, at), line
        return None
    return None


def _last(path: Path) -> tuple[Place, bytes] | None:
    size = path.stat().st_size
    with open(path, "rb") as f:
        length = 64 << 10
        while True:
            start = max(0, size - length)
            f.seek(start)
            tail = f.read(size - start).rstrip()
            cut = tail.rfind(b"\n")
            if cut >= 0 or start == 0:
                return Place(path, start + cut + 1), tail[cut + 1 :]
            if length > LONGEST:
                return None
            length *= 8
