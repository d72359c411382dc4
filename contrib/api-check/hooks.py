"""What schemathesis cannot know of this site.

It must not take away the key with which it asks: it would go on, be refused everywhere, and find nothing
wrong with that. And of the recipes it can only guess the names: every second submission is one that succeeds, so
that there are runs to follow the links to. Archives it cannot make at all: every second one is whole, and its digest
is right.
"""

import gzip
import hashlib
import io
import itertools
import os
import tarfile

import schemathesis

OWN = {"key": {os.environ["API_CHECK_KEY_ID"]}, "user": set(os.environ["API_CHECK_USER"].split(","))}
ENDS = ("rotate", "revoke", "disable", "{user}")


TURN = itertools.count()


def archive():
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        entry = tarfile.TarInfo("train.py")
        entry.size = 9
        tar.addfile(entry, io.BytesIO(b"print(1)\n"))
    return gzip.compress(made.getvalue(), mtime=0)


schemathesis.serializer.alias("application/gzip", "application/octet-stream")


@schemathesis.hook
def before_call(ctx, case, kwargs):
    if case.method == "POST" and case.path == "/v1/runs" and isinstance(case.body, dict) and next(TURN) % 2 == 0:
        case.body = {"recipe": "probe", "priority": 1}
        return
    if case.method == "POST" and case.path == "/v1/snapshots" and next(TURN) % 2 == 0:
        case.body = archive()
        case.query["sha256"] = hashlib.sha256(case.body).hexdigest()
        return
    if case.method == "GET" or not case.path.endswith(ENDS):
        return
    for name, own in OWN.items():
        if case.path_parameters.get(name) in own:
            case.path_parameters[name] = "nobody-s"
