"""Writes the same rows as make.py with other programs: pip install polars duckdb fastparquet pandas pyarrow. Polars puts no whole stream between the
marks of an Arrow file; DuckDB and fastparquet write pages of their own."""

from pathlib import Path

import duckdb
import fastparquet
import polars
import pyarrow.parquet

HERE = Path(__file__).parent
PLAIN = ["text", "i64", "i8", "f64", "yes"]


def main() -> None:
    t = pyarrow.parquet.read_table(HERE / "plain.parquet")
    plain = t.select([c for c in PLAIN if c in t.column_names])
    polars.from_arrow(plain).write_ipc(HERE / "polars.arrow", compression="zstd")
    polars.from_arrow(plain).write_parquet(HERE / "polars.parquet")
    duckdb.sql("SELECT * FROM plain").write_parquet(str(HERE / "duckdb.parquet"))
    fastparquet.write(str(HERE / "fastparquet.parquet"), plain.select(["text"]).to_pandas(), compression="GZIP")


if __name__ == "__main__":
    main()
