"""Writes the files beside it and the rows that are in them, with the pyarrow of the locked environment.

columnar_test.go and recipes/python/tests/test_formats.py read both. The rows are written down here by hand: neither reader
made them.
"""

import csv
import datetime as d
import decimal
import gzip
import hashlib
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

HERE = Path(__file__).parent
N = 40  # rows, in which each column also has null


def at(i, *values):
    return None if i % 5 == 4 else values[i % len(values)]


def day(i):
    return d.date(1960, 1, 1) + d.timedelta(days=700 * i)


utc = d.timezone.utc
turn = pa.struct([("role", pa.string()), ("content", pa.string())])
columns = [  # name, type, value of row i, and what it is in JSON
    ("text", pa.string(), lambda i: f'“{i}” "quoted"\n\t\\ \x01 é\U0001f600' * (i % 3 + 1), None),
    ("none", pa.string(), lambda i: at(i, "", "a", "aa", "ab"), None),
    ("large", pa.large_string(), lambda i: at(i, "x" * 50, "x" * 49 + "y"), None),
    ("picked", pa.dictionary(pa.int8(), pa.string()), lambda i: at(i, "red", "green"), None),
    ("yes", pa.bool_(), lambda i: at(i, True, False), None),
    ("i8", pa.int8(), lambda i: at(i, -128, 127), None),
    ("u16", pa.uint16(), lambda i: at(i, 0, 65535), None),
    ("u32", pa.uint32(), lambda i: at(i, 0, 2**32 - 1), None),
    ("i64", pa.int64(), lambda i: at(i, -(2**63), 2**63 - 1, i), None),
    ("u64", pa.uint64(), lambda i: at(i, 0, 2**64 - 1), None),
    ("f32", pa.float32(), lambda i: at(i, 0.5, -1.0, 1e30), lambda v: None if v is None else pa.scalar(v, pa.float32()).as_py()),
    ("f64", pa.float64(), lambda i: at(i, 0.1, 1e300, float("nan"), 3.0), lambda v: None if v != v else v),
    ("f16", pa.float16(), lambda i: at(i, 1.5, -0.25, 65504.0), None),
    ("day", pa.date32(), lambda i: at(i, day(i)), lambda v: v and v.isoformat()),
    ("day64", pa.date64(), lambda i: at(i, day(i)), lambda v: v and v.isoformat()),
    ("clock", pa.time64("us"), lambda i: at(i, d.time(1, 2, 3), d.time(1, 2, 3, 400)), lambda v: v and v.isoformat().replace("000400", "0004")),
    ("ms", pa.timestamp("ms"), lambda i: at(i, d.datetime(1969, 12, 31, 23, 59, 59, 500000)), lambda v: v and v.isoformat()[:-5]),
    ("us", pa.timestamp("us", "Europe/Berlin"), lambda i: at(i, d.datetime(2024, 2, 29, 1, 2, 3, tzinfo=utc)), lambda v: v and "2024-02-29T01:02:03Z"),
    ("ns", pa.timestamp("ns"), lambda i: at(i, 1), lambda v: v and "1970-01-01T00:00:00.000000001"),
    ("took", pa.duration("us"), lambda i: at(i, d.timedelta(seconds=i)), lambda v: None if v is None else v.seconds * 10**6),
    ("price", pa.decimal128(9, 2), lambda i: at(i, decimal.Decimal("-0.05"), decimal.Decimal("1234567.80")), lambda v: v and str(v)),
    ("huge", pa.decimal128(30, 0), lambda i: at(i, decimal.Decimal(10**29)), lambda v: v and str(v)),
    ("nothing", pa.null(), lambda i: None, None),
    ("list", pa.list_(pa.int32()), lambda i: at(i, [], [1, None, 3], [i] * 3), None),
    ("lists", pa.list_(pa.list_(pa.string())), lambda i: at(i, [[], None, ["a", None]], [["b"]]), None),
    ("pair", pa.list_(pa.int32(), 2), lambda i: at(i, [1, 2], [3, None]), None),
    ("about", pa.struct([("a", pa.int32()), ("b", pa.struct([("c", pa.string())]))]), lambda i: at(i, {"a": i, "b": {"c": "x"}}, {"a": None, "b": None}), None),
    ("map", pa.map_(pa.string(), pa.int64()), lambda i: at(i, [("a", 1), ("b", None)], []), lambda v: None if v is None else dict(v)),
    ("messages", pa.list_(turn), lambda i: [{"role": "user", "content": "ask" * i}, {"role": "assistant", "content": f"answer {i}"}], None),
]


def table():
    return pa.table({n: pa.array([of(i) for i in range(N)], t) for n, t, of, _ in columns})


def parquet(name, t, **options):
    pq.write_table(t, HERE / name, **options)


def word(h, w):
    b = w.encode()
    h.update(len(b).to_bytes(4, "big") + b)


def digest(row):
    """Of a row of the kind, as docs/dataset-formats.md has it."""
    h = hashlib.sha256()
    for name in ("messages", "prompt", "completion"):
        if isinstance(row.get(name), str):
            word(h, name)
            word(h, row[name])
        elif name in row:
            word(h, name + "[]")
            for m in row[name]:
                word(h, m["role"])
                word(h, m["content"])
    return h.hexdigest()


TEXTS = ["one", 'two, "2"', "drei\nünf \\ \U0001f600", "tab\tand \x7f"]
# What stands in the files, the layout, the kind, and what the rows are then.
LAYOUTS = {
    "plain": ([{"prompt": t, "completion": t + "!", "note": "n"} for t in TEXTS], {}, "prompt_completion", lambda r: r),
    "map": (
        [{"q": t, "completion": "another thing", "a": t + "!"} for t in TEXTS],
        {"map": {"prompt": "q", "completion": "a"}},
        "prompt_completion",
        lambda r: {"prompt": r["q"], "completion": r["a"]},
    ),
    "alpaca": (
        [{"instruction": t, "input": "" if i % 2 else "in " + t, "output": t + "!"} for i, t in enumerate(TEXTS)],
        {"preset": "alpaca"},
        "prompt_completion",
        lambda r: {"prompt": r["instruction"] + ("\n" + r["input"] if r["input"] else ""), "completion": r["output"]},
    ),
    "sharegpt": (
        [{"system": "s" if i % 2 else None, "conversations": [{"from": "human", "value": t}, {"from": "gpt", "value": t + "!"}]} for i, t in enumerate(TEXTS)],
        {"preset": "sharegpt"},
        "messages",
        lambda r: {
            "messages": ([{"role": "system", "content": r["system"]}] if r["system"] else [])
            + [{"role": {"human": "user", "gpt": "assistant"}[c["from"]], "content": c["value"]} for c in r["conversations"]]
        },
    ),
}


def squeezed(name, data):
    if name.endswith(".zst"):
        with pa.CompressedOutputStream(str(HERE / name), "zstd") as f:
            f.write(data)
    else:
        (HERE / name).write_bytes(gzip.compress(data, mtime=0) if name.endswith(".gz") else data)


def layouts():
    index = {}
    for name, (rows, layout, kind, of) in LAYOUTS.items():
        lines = "".join(json.dumps(r) + "\n" for r in rows).encode()
        array = json.dumps(rows, indent=1, ensure_ascii=False).encode()
        files = {".jsonl": lines, ".jsonl.gz": lines, ".jsonl.zst": lines, ".json": array, ".json.gz": array, ".json.zst": array}
        if name != "sharegpt":
            text = io.StringIO()
            w = csv.DictWriter(text, list(rows[0]))
            w.writeheader()
            w.writerows(rows)
            files |= {".csv": text.getvalue().encode(), ".csv.gz": text.getvalue().encode(), ".csv.zst": text.getvalue().encode()}
        for ending, data in files.items():
            squeezed("layouts/" + name + ending, data)
        t = pa.Table.from_pylist(rows)
        parquet(f"layouts/{name}.parquet", t)
        with pa.ipc.new_stream(HERE / f"layouts/{name}.arrow", t.schema) as w:
            w.write_table(t, max_chunksize=3)
        for ending in [*files, ".parquet", ".arrow"]:
            fmt = ending.split(".")[1]
            index[name + ending] = {"layout": {"format": fmt} | layout, "kind": kind, "digests": [digest(of(r)) for r in rows]}
    (HERE / "layouts" / "index.json").write_text(json.dumps(index, indent=1) + "\n")


def main():
    (HERE / "layouts").mkdir(exist_ok=True)
    layouts()
    rows = [{n: of(i) if json_of is None else json_of(of(i)) for n, _, of, json_of in columns} for i in range(N)]
    (HERE / "rows.jsonl").write_text("".join(json.dumps(r, ensure_ascii=False, allow_nan=False) + "\n" for r in rows))
    t = table()
    parquet("snappy.parquet", t, row_group_size=17, data_page_size=64, write_batch_size=3)
    parquet("second.parquet", t, compression="zstd", data_page_version="2.0", row_group_size=30)
    parquet("plain.parquet", t, compression="none", use_dictionary=False)
    parquet("gzip.parquet", t, compression="gzip", store_schema=False)
    parquet("lz4.parquet", t, compression="lz4", data_page_version="2.0", use_dictionary=False)
    encodings = {"text": "DELTA_BYTE_ARRAY", "none": "DELTA_LENGTH_BYTE_ARRAY", "i64": "DELTA_BINARY_PACKED", "i8": "DELTA_BINARY_PACKED", "f32": "BYTE_STREAM_SPLIT", "yes": "RLE"}
    parquet("delta.parquet", t, use_dictionary=False, column_encoding=encodings, compression="none")
    parquet("old.parquet", t.select(["text", "day"]).append_column("ns", t["ns"]), use_deprecated_int96_timestamps=True, version="1.0")
    for name, make, options in (
        ("stream.arrow", pa.ipc.new_stream, pa.ipc.IpcWriteOptions()),
        ("file.arrow", pa.ipc.new_file, pa.ipc.IpcWriteOptions(compression="zstd")),
        ("lz4.arrow", pa.ipc.new_stream, pa.ipc.IpcWriteOptions(compression="lz4")),
    ):
        with make(HERE / name, t.schema, options=options) as w:
            w.write_table(t, max_chunksize=13)


if __name__ == "__main__":
    main()
