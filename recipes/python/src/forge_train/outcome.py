"""How a rank ends: the exceptions of this package and the exit codes that they mean.

The codes are those of docs/run-contract.md; forge.Judge reads them. One table maps
exceptions to codes, so that no other module calls sys.exit.
"""

from __future__ import annotations

from dataclasses import dataclass

OK = 0
FAILED = 1
CHECKPOINTED = 85
SUPERSEDED = 86
BAD_INPUT = 87
NODE_ENV = 88
RENDEZVOUS = 89
NAN = 90
CUDA_OOM = 91
CANCELLED = 143


class Ended(Exception):
    """The rank ends here, in a way that the contract has a code for."""

    code = FAILED
    outcome = "failed"
    reason = "user_exit"


class BadInput(Ended):
    """Dataset, base model or parameters do not do; a second try would end the same."""

    code = BAD_INPUT
    reason = "bad_input"


class NodeEnvironment(Ended):
    """This node's Python, packages or devices do not do; another node may."""

    code = NODE_ENV
    reason = "node_env"


class Rendezvous(Ended):
    """The ranks did not find each other, or lost each other."""

    code = RENDEZVOUS
    reason = "rendezvous"


class NotANumber(Ended):
    """Loss or gradients are no longer finite."""

    code = NAN
    reason = "nan"


class Spiked(NotANumber):
    """The loss is a number and far above what it was."""

    reason = "spike"


class DiskFull(Ended):
    """A checkpoint could not be saved for want of space or quota; the older ones are whole."""

    reason = "disk_full"


class Superseded(Ended):
    """A newer attempt holds the fence."""

    code = SUPERSEDED
    outcome = "superseded"
    reason = "superseded"


class Cancelled(Ended):
    """Asked to end without saving."""

    code = CANCELLED
    reason = "cancelled"


class Checkpointed(Ended):
    """Asked to save and end; the checkpoint is durable."""

    code = CHECKPOINTED
    outcome = "checkpointed"
    reason = "checkpoint"


class RollBack(Exception):
    """No end: training goes back to the last good checkpoint and skips the batch of this step."""

    def __init__(self, step: int, why: str):
        super().__init__(why)
        self.step = step


class NothingLeft(Exception):
    """No end: training goes on from its last step, so that only the output is still to be written."""


@dataclass(frozen=True)
class Verdict:
    """What an end means: exit code, and the words for status.json."""

    code: int
    outcome: str
    reason: str
    message: str


# How gloo, NCCL and the TCP store word "a peer is gone". They raise plain RuntimeErrors
# for it, so text is all there is. A rank that lost a peer must not count as the user's
# failure: when a node dies, its own ranks leave no exit record and this is all forge sees.
_PEER_LOST = (
    "connection closed by peer",
    "connection reset by peer",
    "broken pipe",
    "connection refused",
    "socket timeout",
    "timed out waiting",
    "ncclremoteerror",
    "ncclsystemerror",
    "nccl communicator was aborted",
    "[/pytorch/third_party/gloo",
    "gloo connectfullmesh failed",
)
_OUT_OF_MEMORY = ("cuda out of memory", "cublas_status_alloc_failed", "cuda error: out of memory")


def judge(error: BaseException) -> Verdict:
    """Say which exit code an exception means."""
    if isinstance(error, Ended):
        return Verdict(error.code, error.outcome, error.reason, str(error))
    names = {c.__name__ for c in type(error).__mro__}
    text = f"{type(error).__name__}: {error}"
    low = text.lower()
    if isinstance(error, ImportError):  # lazily, deep in a library: two packages that do not go together
        return Verdict(NODE_ENV, "failed", "node_env", _first_line(text))
    if "OutOfMemoryError" in names or any(s in low for s in _OUT_OF_MEMORY):
        return Verdict(CUDA_OOM, "failed", "cuda_oom", _first_line(text))
    if names & {"DistBackendError", "DistNetworkError", "DistStoreError"} or (
        isinstance(error, RuntimeError) and any(s in low for s in _PEER_LOST)
    ):
        return Verdict(RENDEZVOUS, "failed", "rendezvous", "lost the other ranks: " + _first_line(text))
    return Verdict(FAILED, "failed", "user_exit", _first_line(text))


def _first_line(text: str, limit: int = 500) -> str:
    line = text.strip().splitlines()[0] if text.strip() else ""
    return line if len(line) <= limit else line[: limit - 3] + "..."
