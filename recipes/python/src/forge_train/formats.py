"""The files of a dataset, in every format that registration knows, as rows.

internal/dataset reads the same files in Go when they are registered; docs/dataset-formats.md says what both make of them,
and tests hold both to the same rows. What registration refuses (columns that are not text, two columns of one name) is
refused here, too; what it bounds is not bounded again.
"""

from __future__ import annotations

import csv
import datetime
import decimal
import gzip
import io
import json
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any

from . import presets
from .outcome import BadInput

FORMATS = ("jsonl", "json", "csv", "parquet", "arrow")
_BATCH = 256  # rows of a Parquet file that are made at a time
_CHUNK = 1 << 18
_DAY = 86_400


@dataclass(frozen=True)
class Layout:
    """How a row of the files becomes a row of the kind."""

    format: str = "jsonl"
    columns: dict[str, str] = field(default_factory=dict)  # of the kind → of the files
    preset: str = ""

    @classmethod
    def of(cls, config: dict) -> Layout:
        """What config.json says; nothing is JSON Lines with the columns of the kind."""
        given = config.get("dataset_layout")
        if given is None:
            return cls()
        if not isinstance(given, dict) or given.get("format") not in FORMATS:
            raise BadInput(f"dataset_layout is not understood: its format is not one of {', '.join(FORMATS)}")
        preset = given.get("preset") or ""
        if preset and preset not in presets.PRESETS:
            raise BadInput(f"dataset_layout names the preset {preset!r}; want {' or '.join(presets.PRESETS)}")
        return cls(given["format"], given.get("map") or {}, preset)

    @property
    def lines(self) -> bool:
        """Rows are lines of the files as they are, or of what the files unpack to."""
        return self.format == "jsonl"

    def applied(self, where: str, row: dict) -> dict:
        """The row as one of the kind."""
        if self.preset:
            return presets.PRESETS[self.preset](where, row)
        if not self.columns:
            return row
        names = {file: kind for kind, file in self.columns.items()}
        # a column that has the name of a mapped one of the kind is another thing
        return {names.get(c, c): v for c, v in row.items() if c in names or c not in self.columns}


def files_of(path: Path, names: Iterable[str] | None = None) -> tuple[Path, ...]:
    """The files of a dataset: those that its version names, or every .jsonl below a directory."""
    if path.is_file():
        return (path,)
    if not path.is_dir():
        raise BadInput(f"dataset {path} does not exist on this node")
    if names:
        for name in names:
            if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                raise BadInput(f"dataset {path} has a file outside of its directory: {name}")
        found = tuple(path / name for name in names)
        for file in found:
            if not file.is_file():
                raise BadInput(f"dataset {path} has no file {file.relative_to(path)} any more on this node")
        return found
    found = tuple(
        sorted(
            p
            for p in path.rglob("*.jsonl")
            if p.is_file() and not any(s.startswith(".") for s in p.relative_to(path).parts)
        )
    )
    if not found:
        raise BadInput(f"dataset {path} holds no .jsonl file")
    return found


def read(files: Iterable[Path], layout: Layout) -> Iterator[tuple[str, dict]]:
    """The rows of the kind, each with its place."""
    rows_of = _READERS[layout.format]
    for path in files:
        try:
            for where, row in rows_of(path):
                if not isinstance(row, dict):
                    raise BadInput(f"{where}: want a JSON object, have {type_of(row)}")
                yield where, layout.applied(where, row)
        except (OSError, EOFError) as e:
            raise BadInput(f"dataset {path} cannot be read: {getattr(e, 'strerror', None) or e}") from e


def type_of(value: object) -> str:
    """What a value is, for people."""
    return {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}.get(
        type(value), "a number"
    )


def compressed(path: Path) -> bool:
    """Say whether the end of the name says so."""
    return path.suffix.lower() in (".gz", ".zst")


def opened(path: Path) -> IO[bytes]:
    """The bytes of a file, without its compression."""
    match path.suffix.lower():
        case ".gz":
            return gzip.open(path, "rb")
        case ".zst":
            import pyarrow

            # the standard library has zstd from 3.14 on
            return io.BufferedReader(pyarrow.CompressedInputStream(pyarrow.OSFile(str(path)), "zstd"), _CHUNK)
    return open(path, "rb")


def _lines(path: Path) -> Iterator[tuple[str, Any]]:
    with opened(path) as f:
        for number, line in enumerate(f, 1):
            where = f"{path} line {number}"
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if not line.strip():
                continue
            try:
                yield where, json.loads(line.decode("utf-8"))
            except UnicodeDecodeError as e:
                raise BadInput(f"{where} is not UTF-8: byte {e.start + 1} is 0x{line[e.start]:02x}") from e
            except ValueError as e:
                raise BadInput(f"{where} is not JSON: {e}") from e


def _array(path: Path) -> Iterator[tuple[str, Any]]:
    """One array, element after element; no more of it is held than the longest needs."""
    decode, space = json.JSONDecoder().raw_decode, " \t\r\n"
    with opened(path) as raw:
        f = io.TextIOWrapper(raw, encoding="utf-8", newline="")
        try:
            buffer, number, ended = f.read(_CHUNK).lstrip(space), 0, False
            if not buffer.startswith("["):
                raise BadInput(f"dataset {path} is not one array of objects")
            buffer = buffer[1:]
            while True:
                buffer = buffer.lstrip(space)
                if number and buffer.startswith(","):
                    buffer = buffer[1:].lstrip(space)
                if buffer.startswith("]"):
                    return
                try:
                    row, end = decode(buffer)
                    if ended or end < len(buffer):  # a number may go on
                        number += 1
                        yield f"{path} row {number}", row
                        buffer = buffer[end:]
                        continue
                except ValueError as e:
                    if ended:
                        raise BadInput(f"{path} row {number + 1} is not JSON: {e}") from e
                more = f.read(max(_CHUNK, len(buffer)))  # twice as much each time: the work stays linear
                ended = not more
                buffer += more
        except UnicodeDecodeError as e:
            raise BadInput(f"dataset {path} is not UTF-8") from e


def _csv(path: Path) -> Iterator[tuple[str, Any]]:
    header: list[str] = []
    with opened(path) as f:
        for number, record in _records(path, f):
            where = f"{path} line {number}"
            if not header:
                header = record
                if len(set(header)) < len(header):
                    raise BadInput(f"{where}: two columns have the same name")
                continue
            if len(record) != len(header):
                raise BadInput(f"{where} has {len(record)} fields; the header has {len(header)}")
            yield where, dict(zip(header, record, strict=True))


def _records(path: Path, f: IO[bytes]) -> Iterator[tuple[int, list[str]]]:
    """Records and the lines that they begin in; line ends are one newline, in fields, too."""
    csv.field_size_limit(1 << 30)
    held, begun = "", 0
    for number, line in enumerate(f, 1):
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as e:
            raise BadInput(f"{path} line {number} is not UTF-8: byte {e.start + 1} is 0x{line[e.start]:02x}") from e
        if text.endswith("\r\n"):
            text = text[:-2] + "\n"
        elif text.endswith("\r"):
            text = text[:-1]
        if not held:
            if text in ("", "\n"):
                continue
            begun = number
        held += text
        if held.count('"') % 2:
            continue  # a field goes on in the next line
        if '"' not in held:
            yield begun, held.removesuffix("\n").split(",")
        else:
            try:
                yield begun, next(csv.reader([held], strict=True))
            except csv.Error as e:
                raise BadInput(f"{path} line {begun} is not CSV: {e}") from e
        held = ""
    if held:
        raise BadInput(f"{path} line {begun}: a double quote is not closed")


def _parquet(path: Path) -> Iterator[tuple[str, Any]]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as f:
            yield from _batches(path, f.schema_arrow, f.iter_batches(_BATCH))
    except pyarrow.ArrowException as e:
        raise BadInput(f"dataset {path} is no Parquet file that can be read: {e}") from e


def _arrow(path: Path) -> Iterator[tuple[str, Any]]:
    import pyarrow

    try:
        with pyarrow.memory_map(str(path)) as f:
            mark = f.read(6)
            f.seek(0)
            if mark != b"ARROW1":
                reader = pyarrow.ipc.open_stream(f)
                yield from _batches(path, reader.schema, reader)
                return
            # between its marks not every program writes a whole stream: the index says where batches are
            file = pyarrow.ipc.open_file(f)
            yield from _batches(path, file.schema, (file.get_batch(i) for i in range(file.num_record_batches)))
    except pyarrow.ArrowException as e:
        raise BadInput(f"dataset {path} is no Arrow file that can be read: {e}") from e


def _batches(path: Path, schema, batches: Iterable) -> Iterator[tuple[str, Any]]:
    names = schema.names
    if len(set(names)) < len(names):
        raise BadInput(f"dataset {path} has two columns of one name")
    made = [_maker(path, f.name, f.type) for f in schema]
    number = 0
    for batch in batches:
        columns = [_plain(c).to_pylist() for c in batch.columns]
        for values in zip(*columns, strict=True):
            number += 1
            yield (
                f"{path} row {number}",
                {n: v if make is None else make(v) for n, v, make in zip(names, values, made, strict=True)},
            )


def _plain(column):
    """A column whose times are numbers: Python's own have no nanoseconds."""
    import pyarrow

    while isinstance(column.type, pyarrow.BaseExtensionType):
        column = column.storage
    wanted = _counted(column.type)
    return column if wanted == column.type else column.cast(wanted)


def _counted(t):
    """The type with whole numbers in the place of times, and values in that of references."""
    import pyarrow as pa

    is_ = pa.types
    if is_.is_timestamp(t) or is_.is_duration(t) or is_.is_time64(t) or is_.is_date64(t):
        return pa.int64()
    if is_.is_time32(t) or is_.is_date32(t):
        return pa.int32()
    if is_.is_dictionary(t):
        return _counted(t.value_type)
    if is_.is_struct(t):
        return pa.struct([f.with_type(_counted(f.type)) for f in t])
    if is_.is_map(t):
        return pa.map_(t.key_type, _counted(t.item_type))
    if is_.is_fixed_size_list(t):
        return pa.list_(t.value_field.with_type(_counted(t.value_type)), t.list_size)
    if is_.is_large_list(t):
        return pa.large_list(t.value_field.with_type(_counted(t.value_type)))
    if is_.is_list(t):
        return pa.list_(t.value_field.with_type(_counted(t.value_type)))
    return t


def _maker(path: Path, name: str, t) -> Callable[[Any], Any] | None:
    """What makes JSON of the values of a type; None: they are."""
    import pyarrow as pa

    is_ = pa.types
    while isinstance(t, pa.BaseExtensionType):
        t = t.storage_type
    if is_.is_dictionary(t):
        return _maker(path, name, t.value_type)
    if is_.is_integer(t) or is_.is_boolean(t) or is_.is_null(t) or is_.is_duration(t):
        return None
    if is_.is_string(t) or is_.is_large_string(t) or is_.is_string_view(t):
        return None
    if is_.is_floating(t):
        return lambda v: v if v is not None and math.isfinite(v) else None
    if is_.is_decimal(t):
        return lambda v: None if v is None else _decimal(v)
    if is_.is_date(t) or is_.is_time(t) or is_.is_timestamp(t):
        return _timed(path, name, t)
    if is_.is_struct(t):
        fields = {f.name: _maker(path, f"{name}.{f.name}", f.type) for f in t}
        if not any(fields.values()):
            return None
        return lambda v: v and {k: fields[k](x) if fields[k] else x for k, x in v.items()}
    if is_.is_map(t) and is_.is_string(t.key_type):
        make = _maker(path, f"{name}.value", t.item_type) or (lambda v: v)
        return lambda v: None if v is None else {k: make(x) for k, x in v}
    if is_.is_list(t) or is_.is_large_list(t) or is_.is_fixed_size_list(t):
        make = _maker(path, f"{name}[]", t.value_type)
        return None if make is None else lambda v: v and [make(x) for x in v]
    raise BadInput(f"dataset {path}: column {name} has the type {t}, which is no part of a row of text")


def _decimal(v: decimal.Decimal) -> str:
    return format(v, "f")


def _timed(path: Path, name: str, t) -> Callable[[Any], Any]:
    import pyarrow as pa

    date, clock = pa.types.is_date(t), pa.types.is_time(t)
    units = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
    per_second = 1 if pa.types.is_date32(t) else 10**3 if date else units[t.unit]
    zone = "Z" if pa.types.is_timestamp(t) and t.tz else ""

    def text(v: int | None) -> str | None:
        if v is None:
            return None
        seconds, rest = (v * _DAY, 0) if pa.types.is_date32(t) else divmod(v, per_second)
        try:
            at = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=seconds)
        except OverflowError as e:
            raise BadInput(f"dataset {path}: column {name} holds a time outside of the years 1 to 9999") from e
        if date:
            return at.date().isoformat()
        digits = f"{rest * (10**9 // per_second):09d}".rstrip("0")
        return (at.time() if clock else at).isoformat() + (f".{digits}" if digits else "") + zone

    return text


_READERS: dict[str, Callable[[Path], Iterator[tuple[str, Any]]]] = {
    "jsonl": _lines,
    "json": _array,
    "csv": _csv,
    "parquet": _parquet,
    "arrow": _arrow,
}
