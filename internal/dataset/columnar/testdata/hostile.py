"""Writes the small files of hostile/, which are to be refused, with what each is refused for."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

HERE = Path(__file__).parent / "hostile"


def nested(depth, leaf):
    t, v = pa.string(), leaf
    for _ in range(depth):
        t, v = pa.list_(t), [v]
    return pa.table({"text": pa.array([v], t)})


def main():
    HERE.mkdir(exist_ok=True)
    why = {}

    def parquet(name, table, reason, **options):
        pq.write_table(table, HERE / name, **options)
        why[name] = reason

    def arrow(name, table, reason, **options):
        with pa.ipc.new_stream(HERE / name, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as w:
            w.write_table(table)
        why[name] = reason

    big = pa.table({"text": ["x" * (70 << 20)]})
    parquet("page.parquet", big, "unpacks to 70 MiB", compression="zstd", compression_level=19, use_dictionary=False, write_statistics=False)
    arrow("batch.arrow", big, "unpacks to", compression=pa.Codec("zstd", 19))
    long = pa.table({"text": ["x" * (17 << 20)]})
    parquet("row.parquet", long, "longer than 16 MiB", compression="zstd", compression_level=19, use_dictionary=False, write_statistics=False)
    again = pa.DictionaryArray.from_arrays(pa.array([0] * 300_000, pa.int8()), ["x" * (1 << 20)])
    parquet("times.parquet", pa.table({"text": again}), "more than 2000 times", compression="zstd", write_statistics=False)
    arrow("times.arrow", pa.table({"text": again}), "more than 2000 times", compression=pa.Codec("zstd", 19))
    parquet("deep.parquet", nested(70, "a"), "nests deeper than 64")
    arrow("deep.arrow", nested(60, "a"), "")
    wide = pa.table({f"c{i}": pa.array([1], pa.int8()) for i in range(1001)})
    parquet("wide.parquet", wide, "more than 1000 columns", compression="none", write_statistics=False, use_dictionary=False)
    parquet("brotli.parquet", pa.table({"text": ["a"]}), "compressed with Brotli", compression="brotli")
    image = pa.table({"text": ["a"], "image": [{"bytes": b"x", "path": "p"}]})
    parquet("binary.parquet", image, "column image.bytes holds binary data")
    arrow("binary.arrow", image, "column image.bytes holds binary data")
    twice = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], ["text", "text"])
    parquet("twice.parquet", twice, "two columns text")
    arrow("twice.arrow", twice, "two columns text")
    arrow("union.arrow", pa.table({"text": pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array(["a"])])}), "the type union")
    keys = pa.table({"map": pa.array([[(1, 2)]], pa.map_(pa.int8(), pa.int8()))})
    parquet("keys.parquet", keys, "map whose keys are not text")
    arrow("keys.arrow", keys, "map whose keys are not text")
    (HERE / "index.json").write_text(json.dumps({k: v for k, v in why.items() if v}, indent=1) + "\n")
    (HERE / "deep.arrow").unlink()


if __name__ == "__main__":
    main()
