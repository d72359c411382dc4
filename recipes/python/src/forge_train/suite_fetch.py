"""Bring the data of tasks into this host's cache, where there is network: forgectl suite fetch.

python -m forge_train.suite_fetch TASK,TASK…
"""

from __future__ import annotations

import os
import socket
import sys
from urllib.parse import urlsplit

_REACH_SECONDS = 5.0


def reachable(endpoint: str) -> str:
    """Why the hub cannot be reached; empty when it can."""
    at = urlsplit(endpoint)
    proxy = urlsplit(os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy") or "")
    host, port = (proxy.hostname, proxy.port or 3128) if proxy.hostname else (at.hostname, at.port or 443)
    try:
        socket.create_connection((host or "", port), _REACH_SECONDS).close()
    except OSError as e:
        return f"{host}:{port} cannot be reached from this host: {e}"
    return ""


def main(tasks: list[str]) -> int:
    """Load each task once; the number of those that could not be is the exit code's reason."""
    endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    if why := reachable(endpoint):
        print(f"{why}. Run this where there is network, with HF_HOME on a filesystem that the nodes see", file=sys.stderr)
        return 1
    from lm_eval.tasks import TaskManager

    manager, failed = TaskManager(), 0
    for task in tasks:
        try:
            loaded = manager.load([task])["tasks"]
        except Exception as e:
            failed += 1
            print(f"{task}: {type(e).__name__}: {e}".splitlines()[0], file=sys.stderr)
            continue
        print(f"{task}: {sum(len(t.eval_docs) for t in loaded.values())} samples")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main([t for t in sys.argv[1].split(",") if t]))
