"""Every format gives the rows that registration reads in it: internal/dataset has tests over the same files."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path

import pytest
from gang_of import SRC

from forge_train import formats, rows, sample
from forge_train.formats import Layout
from forge_train.outcome import BadInput

GO = SRC.parent.parent.parent / "internal" / "dataset" / "columnar" / "testdata"
EXPECTED = [json.loads(line) for line in (GO / "rows.jsonl").read_text().splitlines()]
COLUMNAR = sorted(p.name for p in GO.iterdir() if p.suffix in (".parquet", ".arrow"))


def read(path: Path, **layout) -> list[dict]:
    return [row for _, row in formats.read((path,), Layout(**layout))]


@pytest.mark.parametrize("name", COLUMNAR)
def test_columnar_files_hold_the_rows_that_were_written(name):
    got = read(GO / name, format=name.rpartition(".")[2])
    want = [{c: row[c] for c in got[0]} for row in EXPECTED]
    assert got == want
    assert [list(r) for r in got] == [list(r) for r in want]


INDEX = json.loads((GO / "layouts" / "index.json").read_text())


def digest(row: dict) -> str:
    """Of a row of the kind, as docs/dataset-formats.md has it."""
    h = hashlib.sha256()

    def word(w: str) -> None:
        h.update(len(w.encode()).to_bytes(4, "big") + w.encode())

    for name in ("messages", "prompt", "completion"):
        if isinstance(row.get(name), str):
            word(name)
            word(row[name])
        elif name in row:
            word(name + "[]")
            for m in row[name]:
                word(m["role"])
                word(m["content"])
    return h.hexdigest()


def test_every_format_map_and_preset_gives_the_rows_that_registration_reads():
    for name, want in INDEX.items():
        seen = rows.inspect(GO / "layouts" / name, want["kind"], config={"dataset_layout": want["layout"]})
        assert [digest(row) for row in seen.read()] == want["digests"], name


ROWS = [{"q": 'a "b",\nc', "a": "é\U0001f600"}, {"q": "", "a": "2"}, {"q": "x" * 300_000, "a": "3"}]
AS_TEXT = {
    "jsonl": "\n \n".join(json.dumps(r) for r in ROWS) + "\n",
    "json": " [\n" + ",\n".join(json.dumps(r, indent=1) for r in ROWS) + "\n]\n",
    "csv": "q,a\r\n"
    + "\r\n".join(",".join('"' + r[c].replace('"', '""') + '"' for c in ("q", "a")) for r in ROWS).replace('"2"', "2")
    + "\r\n\r\n",
}


@pytest.mark.parametrize("ending", ["", ".gz", ".zst"])
@pytest.mark.parametrize("name", AS_TEXT)
def test_text_files_hold_the_same_rows_however_they_are_compressed(tmp_path, name, ending):
    path = tmp_path / f"data.{name}{ending}"
    data = AS_TEXT[name].encode()
    if ending == ".zst":
        import pyarrow

        with pyarrow.CompressedOutputStream(str(path), "zstd") as f:
            f.write(data)
    else:
        path.write_bytes(gzip.compress(data) if ending else data)
    assert read(path, format=name) == ROWS
    assert read(path, format=name, columns={"prompt": "q"})[1] == {"prompt": "", "a": "2"}
    drawn = list(sample.rows((path,), 2, Layout(name, {"completion": "a"})))
    assert [row["completion"] for _, row in drawn] == ["é\U0001f600", "3"]


def test_a_column_with_the_name_of_a_mapped_one_is_another_thing():
    assert Layout(columns={"prompt": "a", "completion": "prompt"}).applied("", {"a": 1, "prompt": 2, "completion": 3, "z": 4}) == {
        "prompt": 1,
        "completion": 2,
        "z": 4,
    }


def test_presets():
    alpaca, sharegpt = Layout(preset="alpaca").applied, Layout(preset="sharegpt").applied
    assert alpaca("", {"instruction": "a", "input": None, "output": "c", "n": 1}) == {"prompt": "a", "completion": "c", "n": 1}
    assert alpaca("", {"instruction": "a", "input": "b", "output": "c", "prompt": "z"}) == {"prompt": "a\nb", "completion": "c"}
    assert alpaca("", {"instruction": "a", "output": "c", "system": "s", "history": [["h", "i"]]}) == {
        "prompt": [
            {"role": "system", "content": "s"},
            {"role": "user", "content": "h"},
            {"role": "assistant", "content": "i"},
            {"role": "user", "content": "a"},
        ],
        "completion": [{"role": "assistant", "content": "c"}],
    }
    talk = [{"from": "human", "value": "a", "weight": 0}, {"from": "gpt", "value": "b"}]
    assert sharegpt("", {"id": 1, "system": "s", "conversations": talk}) == {
        "messages": [
            {"role": "system", "content": "s"},
            {"role": "user", "content": "a", "weight": 0},
            {"role": "assistant", "content": "b"},
        ],
        "id": 1,
    }
    for apply, row in (
        (alpaca, {"output": "c"}),
        (alpaca, {"instruction": None, "output": "c"}),
        (alpaca, {"instruction": "a", "output": "c", "history": [["h"]]}),
        (sharegpt, {"messages": []}),
        (sharegpt, {"conversations": [{"from": "narrator", "value": "a"}]}),
    ):
        with pytest.raises(BadInput, match="^at: "):
            apply("at", row)


def test_a_version_is_read_as_it_was_registered(tmp_path):
    (tmp_path / "b").mkdir()
    for name in ("a.csv", "b/c.csv", "other.csv"):
        (tmp_path / name).write_text("q,a\n1,2\n")
    config = {"dataset_layout": {"format": "csv", "map": {"prompt": "q", "completion": "a"}}, "dataset_files": ["a.csv", "b/c.csv"]}
    seen = rows.inspect(tmp_path, "prompt_completion", config=config)
    assert (seen.count, list(seen.read())[0]) == (2, {"prompt": "1", "completion": "2"})
    with pytest.raises(BadInput, match="does not suit this recipe"):
        rows.inspect(tmp_path, "unpaired", config=config)
    for name, why in (("gone.csv", "any more"), ("../x.csv", "outside")):
        with pytest.raises(BadInput, match=why):
            rows.inspect(tmp_path, "", config=config | {"dataset_files": [name]})


@pytest.mark.parametrize(
    "name, content, why",
    [
        ("a.json", b'[{"text": "a"}, {"text"', "row 2 is not JSON"),
        ("a.json", b'{"text": "a"}', "not one array"),
        ("a.csv", b'text\n"a', "line 2: a double quote is not closed"),
        ("a.csv", b"text\na,b\n", "line 2 has 2 fields"),
        ("a.csv", b"text\n\xff\n", "line 2 is not UTF-8"),
        ("a.parquet", b"PAR1 and no more", "no Parquet file"),
        ("a.arrow", b"ARROW1 and no more", "no Arrow file"),
        ("a.jsonl.gz", b"not gzip", "cannot be read"),
        ("a.jsonl.zst", b"not zstd", "cannot be read"),
    ],
)
def test_what_cannot_be_read_is_bad_input(tmp_path, name, content, why):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput, match=why):
        read(tmp_path / name, format=name.split(".")[1])


def test_binary_columns_are_refused_by_name(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"text": ["a"], "image": pa.array([{"bytes": b"x"}])}), tmp_path / "a.parquet")
    with pytest.raises(BadInput, match="image.bytes has the type binary"):
        read(tmp_path / "a.parquet", format="parquet")
