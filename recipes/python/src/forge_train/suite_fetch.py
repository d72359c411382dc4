"""Bring the data of tasks into this host's cache, where there is network: forgectl suite fetch.

python -m forge_train.suite_fetch TASK,TASK…

The hub is asked first whether it has a dataset and gives it out: the libraries below wait for minutes, or take an older
copy from the cache in silence. What counts is the revision that the hub names, whole in the cache.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

HUB = "https://huggingface.co"
_REACH_SECONDS = 5.0
_ANSWER_SECONDS = 10.0
_OFFLINE = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_EVALUATE_OFFLINE", "TRANSFORMERS_OFFLINE")


def reachable(endpoint: str) -> str:
    """Why the hub cannot be reached; empty when it can."""
    at = urlsplit(endpoint)
    if at.scheme not in ("http", "https") or not at.hostname:
        return f"HF_ENDPOINT is {endpoint!r}: want the address of a hub, such as {HUB}"
    host, port = at.hostname, at.port or (443 if at.scheme == "https" else 80)
    through = urllib.request.getproxies().get(at.scheme)
    if through and not urllib.request.proxy_bypass(host):
        proxy = urlsplit(through if "://" in through else "http://" + through)
        host, port = proxy.hostname or "", proxy.port or 3128
    try:
        socket.create_connection((host, port), _REACH_SECONDS).close()
    except OSError as e:
        return f"{host}:{port} cannot be reached from this host: {e}"
    return ""


class NotFetched(Exception):
    """Why a dataset is not in the cache, and what to do."""


class Fetch:
    """What stands between lm-eval and the hub: every dataset that a task loads is asked for, said and held against the hub."""

    def __init__(self, endpoint: str):
        import datasets

        self.endpoint = endpoint
        self.task = self.at = ""
        self.known: dict[str, str] = {}  # by dataset: the hub's revision of it
        self._load, datasets.load_dataset = datasets.load_dataset, self.load

    def load(self, path: str, name: str | None = None, *args: Any, **more: Any) -> Any:
        """datasets.load_dataset, with an answer within seconds and nothing older than the hub's revision."""
        if "/" not in path or os.path.exists(path):
            return self._load(path, name, *args, **more)  # files that the task brings itself
        what = f"{path} ({name})" if name else path
        print(f"{self.at} {self.task}: {what}", flush=True)
        try:
            revision = self._revision(path)
            data = self._load(path, name, *args, **more)
        except Exception as e:
            raise NotFetched(f"dataset {what}: {self._why(e, path)}") from e
        self._held(data, what, revision)
        return data

    def _revision(self, path: str) -> str:
        from huggingface_hub import HfApi, get_hf_file_metadata, hf_hub_url
        from huggingface_hub.errors import EntryNotFoundError

        if path not in self.known:
            try:
                sha = get_hf_file_metadata(hf_hub_url(path, "README.md", repo_type="dataset"), timeout=_ANSWER_SECONDS).commit_hash
            except EntryNotFoundError:
                sha = HfApi().dataset_info(path, timeout=_ANSWER_SECONDS).sha
            if not sha:
                raise NotFetched(f"{self.endpoint} answers as no hub does: it names no revision. Set HF_ENDPOINT to a hub or a whole mirror of it")
            self.known[path] = sha
        return self.known[path]

    def _held(self, data: Any, what: str, revision: str) -> None:
        homes = {Path(f["filename"]).parent for split in data.values() for f in split.cache_files}
        if not homes or any(revision not in home.parts for home in homes):
            raise NotFetched(
                f"dataset {what}: the hub broke off, and what the cache holds is older than its revision {revision[:12]}. "
                "Fetch again: what is there is kept"
            )
        for left in (d for home in homes for d in home.parent.glob("*.incomplete")):
            shutil.rmtree(left, ignore_errors=True)  # of a fetch that was killed: evals stumble over it

    def _why(self, e: Exception, path: str) -> str:
        if isinstance(e, NotFetched):
            return str(e)
        chain, hub = [e], self.endpoint
        while (below := chain[-1].__cause__ or chain[-1].__context__) is not None and below not in chain:
            chain.append(below)
        kinds = {k.__name__ for x in chain for k in type(x).__mro__}
        status = next((x.response.status_code for x in chain if getattr(x, "response", None) is not None), 0)
        if "GatedRepoError" in kinds or "gated dataset" in str(e) or status == 403:
            return f"{hub} gives it out only to accounts that asked (it is gated). Ask for access at {hub}/datasets/{path}, set HF_TOKEN to that account's token, and fetch again"
        if status in (401, 404) or "DatasetNotFoundError" in kinds:
            return f"{hub} has no such dataset, or not for this account. A mirror may lack it: set HF_ENDPOINT to one that has it, or HF_TOKEN if it is private"
        if status == 429:
            return f"{hub} answers 429, too many questions. Fetch again in some minutes: what is there is kept"
        if status >= 400:
            return f"{hub} answers {status}. Fetch again later: what is there is kept"
        if "TimeoutException" in kinds or "TimeoutError" in kinds:
            return f"{hub} does not answer. Fetch again later, or set HF_ENDPOINT to a mirror: what is there is kept"
        if {"TransportError", "ConnectionError"} & kinds:
            return f"{hub} broke off. Fetch again: what is there is kept"
        full = next((x for x in chain if isinstance(x, OSError) and x.errno), None)
        if full is not None:
            return f"the cache cannot be written: {full}. Set HF_HOME to a directory with room that this account may write"
        return " ".join(f"{type(e).__name__}: {e}".split())[:300]


def main(tasks: list[str]) -> int:
    """Load each task once; 1 when one could not be."""
    for name in _OFFLINE:  # a site's profile sets them for jobs; who fetches means the network
        os.environ.pop(name, None)
    os.environ |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_UPDATE_DOWNLOAD_COUNTS": "0"}
    endpoint = (os.environ.get("HF_ENDPOINT") or HUB).rstrip("/")
    if why := reachable(endpoint):
        print(f"{why}. Run this where there is network, or set HF_ENDPOINT to a mirror; HF_HOME on a filesystem that the nodes see", file=sys.stderr)
        return 1
    print(f"from {endpoint}", flush=True)  # the libraries take seconds to load
    import datasets
    from lm_eval.tasks import TaskManager

    if endpoint != HUB:  # its name is made from the hub's, and a mirror has none: each dataset would wait for it
        datasets.config.USE_PARQUET_EXPORT = False
    if not sys.stderr.isatty():
        from huggingface_hub.utils import disable_progress_bars

        datasets.disable_progress_bars()
        disable_progress_bars()
    print(f"into {datasets.config.HF_DATASETS_CACHE}", flush=True)
    manager, fetch, failed = TaskManager(), Fetch(endpoint), 0
    for i, task in enumerate(tasks, start=1):
        fetch.task, fetch.at = task, f"[{i}/{len(tasks)}]"
        if task not in manager.all_tasks:
            print(f"{fetch.at} {task}: lm_eval has no such task, so it is the suite's own and brings its data", flush=True)
            continue
        try:
            loaded = manager.load([task])["tasks"]
            print(f"{fetch.at} {task}: {sum(len(t.eval_docs) for t in loaded.values())} samples are in the cache", flush=True)
        except Exception as e:
            failed += 1
            why = str(e) if isinstance(e, NotFetched) else " ".join(f"{type(e).__name__}: {e}".split())[:300]
            print(f"{fetch.at} {task}: {why}", file=sys.stderr, flush=True)
    if failed:
        print(f"{failed} of {len(tasks)} tasks were not fetched", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        code = main([t for t in sys.argv[1].split(",") if t])
    except KeyboardInterrupt:
        print("interrupted: what was under way is not in the cache; fetch again, what is there is kept", file=sys.stderr)
        code = 130
    sys.exit(code)
