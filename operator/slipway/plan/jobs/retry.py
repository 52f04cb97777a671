"""The one retry policy: which causes count, how soon the next try starts, and when none follows.

Attempts of a TrainingJob and tasks use it alike; each brings a RetryPolicy of its own. Nothing here reads a clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from slipway.api.errors import (
    ArtifactError,
    ContractError,
    InputMissing,
    OutputError,
    PluginError,
    SpecError,
    StoreAway,
    StoreError,
)
from slipway.api.status import Failure

PREEMPTED = "Preempted"
NODE_LOST = "NodeLost"
NOT_STARTED = "NotStarted"
INPUT_MISSING = "InputMissing"
OOM_KILLED = "OOMKilled"
EVICTED = "Evicted"
UNKNOWN = "Unknown"
LOST_PODS = "Lost"
SCRIPT_NOT_FOUND = "ScriptNotFound"
START_ERROR = "StartError"
INVALID_IMAGE_NAME = "InvalidImageName"


class Cause(StrEnum):
    """Why a try ended, as far as it decides what follows."""

    OWN = "Own"
    """The work failed: its code, its memory, its disk. The only cause that counts as a failure everywhere."""
    INCURABLE = "Incurable"
    """The work failed in a way that no other try changes."""
    DISRUPTED = "Disrupted"
    """Kubernetes took the pod away (preemption, eviction, drain), or its Node would not run it."""
    NODE_LOST = "NodeLost"
    """The pod's Node does not answer or is gone."""
    NOT_STARTED = "NotStarted"
    """The pods never all ran."""
    INPUT_MISSING = "InputMissing"
    """An artifact that the pod was given is not in the store."""
    INPUT_ALTERED = "InputAltered"
    """An artifact that the pod was given is not what its digest says: somebody may put the right one back."""
    UNREPORTED = "Untold"
    """The pods are gone and nothing says why."""
    STORE_AWAY = "StoreAway"
    """The store does not answer."""
    STORE_REFUSED = "StoreRefused"
    """The store refuses a key, a bucket or a right."""


_BY_REASON = {
    PREEMPTED: Cause.DISRUPTED,
    NODE_LOST: Cause.NODE_LOST,
    NOT_STARTED: Cause.NOT_STARTED,
    INPUT_MISSING: Cause.INPUT_MISSING,
    UNKNOWN: Cause.UNREPORTED,
    LOST_PODS: Cause.UNREPORTED,
    INVALID_IMAGE_NAME: Cause.INCURABLE,
    # The kubelet's own, of pods that it would not run or ended for its Node's sake (pkg/kubelet/lifecycle,
    # pkg/kubelet/nodeshutdown). EVICTED is not among them: without a DisruptionTarget it exceeded a limit of its own.
    "UnexpectedAdmissionError": Cause.DISRUPTED,
    "NodeAffinity": Cause.DISRUPTED,
    "NodeShutdown": Cause.DISRUPTED,
    "Terminated": Cause.DISRUPTED,
    "Preempting": Cause.DISRUPTED,
}
_BY_EXCEPTION = {
    InputMissing.__name__: Cause.INPUT_MISSING,
    StoreAway.__name__: Cause.STORE_AWAY,
    StoreError.__name__: Cause.STORE_REFUSED,
    SCRIPT_NOT_FOUND: Cause.INCURABLE,
    ArtifactError.__name__: Cause.INPUT_ALTERED,
    **{error.__name__: Cause.INCURABLE for error in (SpecError, OutputError, PluginError, ContractError)},
    **{error.__name__: Cause.INCURABLE for error in (ImportError, ModuleNotFoundError)},
    **{error.__name__: Cause.INCURABLE for error in (SyntaxError, IndentationError, TabError)},
}
_OWN_EVICTIONS = (
    "exceeded its local ephemeral storage limit",
    "exceeds the total limit of containers",
    "exceeds the limit",
    "larger consumption of",
    "exceeds its request of",
)
"""What the kubelet says of a pod that it evicts for what the pod itself used: more than a limit, or more than it asked
for on a Node that ran low (pkg/kubelet/eviction/helpers.go; the last one before 1.26)."""
_NODE_EVICTIONS = ("The node was low on resource", "The node had condition")
"""The same of pods that only had the bad luck to be on that Node."""
_SHELL_EXITS = {126: "the command cannot be executed", 127: "the command is not in the image"}
"""Exit codes by which a shell says that it could not start the command (POSIX 2.8.2)."""
_NOT_IN_IMAGE = ("executable file not found", "no such file or directory", "permission denied")
"""What a container runtime says of a command that the image does not hold; anything else may be the Node's."""


@dataclass(frozen=True, slots=True)
class Never:
    """What the user knows to deserve no other try. field: path of the field that says so."""

    exit_codes: frozenset[int] = frozenset()
    exceptions: frozenset[str] = frozenset()
    field: str = ""


def cause_of(failure: Failure | None, never: Never = Never()) -> Cause:
    """The cause that decides what follows; a blameless one is never one of the user's exceptions."""
    if failure is None:
        return Cause.UNREPORTED
    if failure.reason == EVICTED and not is_own_eviction(failure.message) and _names_node(failure.message):
        return Cause.DISRUPTED
    if (by_reason := _BY_REASON.get(failure.reason)) is not None:
        return by_reason
    if failure.reason.startswith("OutOf"):  # OutOfcpu, OutOfpods, OutOfnvidia.com/gpu: the kubelet had no room
        return Cause.DISRUPTED
    by_exception = _BY_EXCEPTION.get(failure.exception or "")
    if _users_word(failure, never) is None and by_exception is not None:
        return by_exception
    return Cause.OWN if why_never(failure, never) is None else Cause.INCURABLE


def is_own_eviction(message: str | None) -> bool:
    """Whether the kubelet says that it evicted the pod for what the pod itself used."""
    return any(sign in (message or "") for sign in _OWN_EVICTIONS)


def _names_node(message: str | None) -> bool:
    return any(sign in (message or "") for sign in _NODE_EVICTIONS)


def why_never(failure: Failure, never: Never = Never()) -> str | None:
    """Why no other try can go better; None where one might."""
    if (said := _users_word(failure, never)) is not None:
        return said
    if failure.reason == INVALID_IMAGE_NAME:
        return "no registry can have an image of that name"
    if failure.reason == START_ERROR and any(sign in (failure.message or "") for sign in _NOT_IN_IMAGE):
        return "the command is not in the image"
    if failure.exception is None and failure.exit_code in _SHELL_EXITS:
        return _SHELL_EXITS[failure.exit_code]
    if _BY_EXCEPTION.get(failure.exception or "") in (Cause.INCURABLE, Cause.INPUT_ALTERED):
        return f"{failure.exception} is raised again by every try"
    return None


def _users_word(failure: Failure, never: Never) -> str | None:
    if failure.exception and failure.exception.rpartition(".")[2] in never.exceptions:
        return f'{never.field}.exceptions names "{failure.exception}"'
    if failure.exit_code is not None and failure.exit_code in never.exit_codes:
        return f"{never.field}.exitCodes names {failure.exit_code}"
    return None


@dataclass(frozen=True, slots=True)
class Limit:
    """How soon, and how often in a row, another try follows a cause.

    most: tries that may follow; None for no end. longest: the cap of a wait that doubles each time.
    """

    most: int | None
    backoff: timedelta
    longest: timedelta

    def wait(self, count: int) -> timedelta:
        """The wait after the cause was met `count` times, at least once."""
        seconds = self.backoff.total_seconds() * 2.0 ** min(max(count, 1) - 1, 20)
        return timedelta(seconds=min(seconds, self.longest.total_seconds()))

    def spent(self, count: int) -> bool:
        return self.most is not None and count > self.most


@dataclass(frozen=True, slots=True)
class Tally:
    """How often causes of a kind have ended a try.

    failures: in all. disruptions: in a row, forgiven once a try ran for the policy's `reset_after`.
    starts, inputs, refusals: in a row, without a try between them that started, found its inputs, was let in.
    """

    failures: int = 0
    disruptions: int = 0
    starts: int = 0
    inputs: int = 0
    refusals: int = 0


_COUNTERS = {
    Cause.OWN: "failures",
    Cause.DISRUPTED: "disruptions",
    Cause.NODE_LOST: "disruptions",
    Cause.NOT_STARTED: "starts",
    Cause.INPUT_MISSING: "inputs",
}


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """limits: by counter of the Tally. counted_as: the counter of a cause, where it is not its own."""

    limits: Mapping[str, Limit]
    counted_as: Mapping[Cause, str] = field(default_factory=dict)
    reset_after: timedelta = timedelta.max
    never: Never = field(default_factory=Never)

    def cause(self, failure: Failure | None) -> Cause:
        return cause_of(failure, self.never)

    def counter(self, cause: Cause) -> str | None:
        """The counter that a cause adds to; None for one that no try follows."""
        final = cause in (Cause.INCURABLE, Cause.INPUT_ALTERED)
        return self.counted_as.get(cause, None if final else _COUNTERS.get(cause, "failures"))

    def counted(self, tally: Tally, cause: Cause, ran: timedelta) -> Tally:
        """The tally after a try that this cause ended. ran: for how long all of its pods ran."""
        name = self.counter(cause)
        if name is None:
            return tally
        forgiven = name == "disruptions" and ran >= self.reset_after
        return replace(tally, **{name: 1 if forgiven else getattr(tally, name) + 1})

    def spent(self, tally: Tally, cause: Cause) -> bool:
        """Whether no other try follows."""
        name = self.counter(cause)
        return name is None or self.limits[name].spent(getattr(tally, name))

    def retry_at(self, tally: Tally, cause: Cause, ended_at: datetime) -> datetime | None:
        """When the next try starts; None where none follows."""
        name = self.counter(cause)
        if name is None or self.spent(tally, cause):
            return None
        return ended_at + self.limits[name].wait(getattr(tally, name))
