"""What schemathesis cannot know of this site.

It must not take away the key with which it asks: it would go on, be refused everywhere, and find nothing
wrong with that. And of the recipes it can only guess the names: every second submission is one that succeeds, so
that there are runs to follow the links to.
"""

import itertools
import os

import schemathesis

OWN = {"key": {os.environ["API_CHECK_KEY_ID"]}, "user": set(os.environ["API_CHECK_USER"].split(","))}
ENDS = ("rotate", "revoke", "disable", "{user}")


TURN = itertools.count()


@schemathesis.hook
def before_call(ctx, case, kwargs):
    if case.method == "POST" and case.path == "/v1/runs" and isinstance(case.body, dict) and next(TURN) % 2 == 0:
        case.body = {"recipe": "probe", "priority": 1}
        return
    if case.method == "GET" or not case.path.endswith(ENDS):
        return
    for name, own in OWN.items():
        if case.path_parameters.get(name) in own:
            case.path_parameters[name] = "nobody-s"
