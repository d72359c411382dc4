"""A hub of datasets on this host: as much of huggingface.co as a fetch asks, with a few invented rows for the suite `default`.

python hub.py PORT      serve until interrupted; HF_ENDPOINT=http://127.0.0.1:PORT
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "5ca1ab1e" * 5
SPLITS = ("train", "validation", "test")
_API = re.compile(r"^/api/datasets/([^/]+/[^/]+?)(?:/(revision|tree|paths-info)/([^/]+)(?:/(.*))?)?$")
_FILE = re.compile(r"^/datasets/([^/]+/[^/]+)/resolve/([^/]+)/(.+)$")
_RANGE = re.compile(r"^bytes=(\d+)-")


def arc(n: int) -> list[dict]:
    choices = {"text": ["a stone", "a spoon", "a river", "a loaf"], "label": list("ABCD")}
    return [{"id": f"q{i}", "question": f"Which of these would baker {i} sell?", "choices": choices, "answerKey": "D"} for i in range(n)]


def hellaswag(n: int) -> list[dict]:
    endings = ["she waters it.", "she eats the pot.", "the pot sings.", "it is Tuesday twice."]
    text = {"activity_label": "Gardening", "ctx_a": "A woman plants a seed.", "ctx_b": "then", "ctx": "A woman plants a seed. then"}
    return [{"ind": i, **text, "endings": endings, "source_id": f"s{i}", "split": "x", "split_type": "indomain", "label": "0"} for i in range(n)]


def winogrande(n: int) -> list[dict]:
    rest = {"option1": "cup", "option2": "shelf", "answer": "1"}
    return [{"sentence": f"Cup {i} fell from the shelf because the _ was not steady.", **rest} for i in range(n)]


def piqa(n: int) -> list[dict]:
    return [{"goal": f"Open jar {i}.", "sol1": "Turn its lid.", "sol2": "Turn the table.", "label": i % 2} for i in range(n)]


# by dataset: the configuration that lm-eval's task names, and its rows
DATASETS = {
    "allenai/ai2_arc": ("ARC-Challenge", arc),
    "Rowan/hellaswag": ("default", hellaswag),
    "allenai/winogrande": ("winogrande_xl", winogrande),
    "baber/piqa": ("default", piqa),
}


def repository(config: str, rows) -> dict[str, bytes]:
    """The files of a dataset as its owner would have pushed them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    card = ["---", "configs:", f"- config_name: {config}", "  data_files:"]
    files = {}
    for size, split in enumerate(SPLITS, start=4):
        buffer = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows(size)), buffer)
        files[f"{config}/{split}-00000-of-00001.parquet"] = buffer.getvalue()
        card += [f"  - split: {split}", f"    path: {config}/{split}-*"]
    return files | {"README.md": "\n".join([*card, "---", "Invented.", ""]).encode()}


class Hub(ThreadingHTTPServer):
    """faults: by dataset, what befalls those who ask for it (gone, gated, broken, hangs, breaks off, stalls, lists nothing)."""

    daemon_threads = True

    def __init__(self, port: int = 0):
        self.repositories = {name: repository(*made) for name, made in DATASETS.items()}
        self.commit = COMMIT
        self.faults: dict[str, str] = {}
        self.asked: list[str] = []
        self.closing = threading.Event()
        super().__init__(("127.0.0.1", port), _Answer)
        self.endpoint = f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> Hub:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, request, client_address) -> None:
        """A client that was killed leaves its connection; that is what some tests are about."""


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *_: object) -> None:
        self.server.asked.append(f"{self.command} {self.path}")

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if m := _API.match(path):
            return self._api(m[1], m[2] or "", m[4] or "")
        if m := _FILE.match(path):
            return self._file(m[1], m[3])
        return self._refuse(404, "EntryNotFound")

    do_HEAD = do_GET

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        m = _API.match(unquote(urlsplit(self.path).path))
        if not m or m[2] != "paths-info":
            return self._refuse(404, "EntryNotFound")
        wanted = json.loads(body)["paths"] if body.startswith("{") else [unquote(v.split("=", 1)[1]) for v in body.split("&") if v.startswith("paths=")]
        return self._listed(m[1], lambda name: name in wanted)

    def _api(self, name: str, what: str, under: str) -> None:
        if what == "tree":
            return self._listed(name, lambda f: f.startswith(under and under + "/"), under)
        if (files := self._files(name)) is None:
            return None
        siblings = [{"rfilename": f} for f in files]
        return self._json({"id": name, "sha": self.server.commit, "private": False, "gated": False, "siblings": siblings, "tags": [], "downloads": 0, "likes": 0})

    def _listed(self, name: str, fits, under: str | None = None) -> None:
        if self.server.faults.get(name) == "lists nothing":
            return self._refuse(404, "EntryNotFound")
        if (files := self._files(name)) is None:
            return None
        folders = {f.split("/")[0] for f in files if "/" in f}
        got = [{"type": "file", "path": f, "size": len(c), "oid": _etag(c)} for f, c in files.items() if fits(f)]
        got += [{"type": "directory", "path": d, "size": 0, "oid": _etag(d.encode())} for d in sorted(folders) if fits(d)]
        if under is not None and not got:
            return self._refuse(404, "EntryNotFound")
        return self._json(got)

    def _files(self, name: str) -> dict[str, bytes] | None:
        """A dataset's files; None where something else was answered."""
        fault = self.server.faults.get(name)
        if fault == "hangs":
            self.server.closing.wait()
            self.close_connection = True
        elif fault == "broken":
            self._refuse(500, "")
        elif fault == "gated":
            self._refuse(401, "GatedRepo")
        elif fault == "gone" or name not in self.server.repositories:
            self._refuse(404, "RepoNotFound")
        else:
            return self.server.repositories[name]
        return None

    def _file(self, name: str, path: str) -> None:
        if (files := self._files(name)) is None:
            return
        if path not in files:
            return self._refuse(404, "EntryNotFound")
        whole, fault = files[path], self.server.faults.get(name)
        m = _RANGE.match(self.headers.get("Range") or "")
        start = int(m[1]) if m else 0
        self.send_response(206 if m else 200)
        if m:
            self.send_header("Content-Range", f"bytes {start}-{len(whole) - 1}/{len(whole)}")
        self.send_header("ETag", f'"{_etag(whole)}"')
        self.send_header("X-Repo-Commit", self.server.commit)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(whole) - start))
        self.end_headers()
        if self.command == "HEAD":
            return
        if fault in ("breaks off", "stalls") and path.endswith(".parquet"):
            self.wfile.write(whole[start : max(start, len(whole) // 2)])
            self.wfile.flush()
            if fault == "stalls":
                self.server.closing.wait()
            self.close_connection = True
            return
        self.wfile.write(whole[start:])

    def _refuse(self, status: int, code: str) -> None:
        self._send(status, json.dumps({"error": code or "Internal"}).encode(), {"X-Error-Code": code} if code else {})

    def _json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in ({"Content-Type": "application/json", "Content-Length": str(len(body)), "X-Repo-Commit": self.server.commit} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _etag(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


if __name__ == "__main__":
    with Hub(int(sys.argv[1])) as hub:
        print(hub.endpoint, flush=True)
        threading.Event().wait()
