"""The retry policy: the causes that count, the delay before the next try, and the limits.

Attempts of a TrainingJob and tasks each have their own RetryPolicy. No function reads a clock.
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
    """The cause of the end of a try, which decides about a retry."""

    OWN = "Own"
    """The task failed by its own code, memory or disk. The only cause that always counts as a failure."""
    INCURABLE = "Incurable"
    """The task failed in a way that another try cannot change."""
    DISRUPTED = "Disrupted"
    """Kubernetes removed the pod (preemption, eviction, drain), or its Node did not admit it."""
    NODE_LOST = "NodeLost"
    """The pod's Node does not answer or is gone."""
    NOT_STARTED = "NotStarted"
    """Some pods never ran."""
    INPUT_MISSING = "InputMissing"
    """An input artifact is not in the store."""
    INPUT_ALTERED = "InputAltered"
    """An input artifact does not match its digest; the user may restore it."""
    UNREPORTED = "Unreported"
    """The pods are gone, for an unknown reason."""
    STORE_AWAY = "StoreAway"
    """The store does not answer."""
    STORE_REFUSED = "StoreRefused"
    """The store refuses a key, a bucket or a permission."""


_BY_REASON = {
    PREEMPTED: Cause.DISRUPTED,
    NODE_LOST: Cause.NODE_LOST,
    NOT_STARTED: Cause.NOT_STARTED,
    INPUT_MISSING: Cause.INPUT_MISSING,
    UNKNOWN: Cause.UNREPORTED,
    LOST_PODS: Cause.UNREPORTED,
    INVALID_IMAGE_NAME: Cause.INCURABLE,
    # Reasons of the kubelet for pods that it did not admit or ended because of the Node (pkg/kubelet/lifecycle,
    # pkg/kubelet/nodeshutdown). EVICTED is not one: without a DisruptionTarget the pod exceeded its own limit.
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
"""Messages of the kubelet for evictions because of the pod's own usage: more than a limit, or more than it requested on
a Node under pressure (pkg/kubelet/eviction/helpers.go; the last one before 1.26)."""
_NODE_EVICTIONS = ("The node was low on resource", "The node had condition")
"""Messages of the kubelet for evictions of other pods on a Node under pressure."""
_SHELL_EXITS = {126: "the command cannot be executed", 127: "the command is not in the image"}
"""Exit codes of a shell that could not start the command (POSIX 2.8.2)."""
_NOT_IN_IMAGE = ("executable file not found", "no such file or directory", "permission denied")
"""Messages of container runtimes for a command that the image does not have; other errors may be the Node's."""


@dataclass(frozen=True, slots=True)
class NeverRetry:
    """Failures that the user excludes from retries. field: path of the spec's field."""

    exit_codes: frozenset[int] = frozenset()
    exceptions: frozenset[str] = frozenset()
    field: str = ""


def cause_of(failure: Failure | None, never: NeverRetry = NeverRetry()) -> Cause:
    """Return the cause of a failure. The user's exceptions do not apply to disruptions and the like."""
    if failure is None:
        return Cause.UNREPORTED
    if failure.reason == EVICTED and not is_own_eviction(failure.message) and _names_node(failure.message):
        return Cause.DISRUPTED
    if (by_reason := _BY_REASON.get(failure.reason)) is not None:
        return by_reason
    if failure.reason.startswith("OutOf"):  # OutOfcpu, OutOfpods, OutOfnvidia.com/gpu: the kubelet had no room
        return Cause.DISRUPTED
    by_exception = _BY_EXCEPTION.get(failure.exception or "")
    if _user_reason(failure, never) is None and by_exception is not None:
        return by_exception
    return Cause.OWN if no_retry_reason(failure, never) is None else Cause.INCURABLE


def is_own_eviction(message: str | None) -> bool:
    """Return True if the kubelet's message shows an eviction because of the pod's own usage."""
    return any(sign in (message or "") for sign in _OWN_EVICTIONS)


def _names_node(message: str | None) -> bool:
    return any(sign in (message or "") for sign in _NODE_EVICTIONS)


def no_retry_reason(failure: Failure, never: NeverRetry = NeverRetry()) -> str | None:
    """Return why a retry cannot succeed; None if it may."""
    if (reason := _user_reason(failure, never)) is not None:
        return reason
    if failure.reason == INVALID_IMAGE_NAME:
        return "the name of the image is invalid"
    if failure.reason == START_ERROR and any(sign in (failure.message or "") for sign in _NOT_IN_IMAGE):
        return "the command is not in the image"
    if failure.exception is None and failure.exit_code in _SHELL_EXITS:
        return _SHELL_EXITS[failure.exit_code]
    if _BY_EXCEPTION.get(failure.exception or "") in (Cause.INCURABLE, Cause.INPUT_ALTERED):
        return f"{failure.exception} would be raised again by every try"
    return None


def _user_reason(failure: Failure, never: NeverRetry) -> str | None:
    if failure.exception and failure.exception.rpartition(".")[2] in never.exceptions:
        return f'{never.field}.exceptions names "{failure.exception}"'
    if failure.exit_code is not None and failure.exit_code in never.exit_codes:
        return f"{never.field}.exitCodes names {failure.exit_code}"
    return None


@dataclass(frozen=True, slots=True)
class Limit:
    """The delay and the maximum number of retries in a row after a cause.

    most: maximum number of retries; None without a limit. longest: maximum delay; the delay doubles each time.
    """

    most: int | None
    backoff: timedelta
    longest: timedelta

    def wait(self, count: int) -> timedelta:
        """Return the delay after `count` failures by the cause, at least one."""
        seconds = self.backoff.total_seconds() * 2.0 ** min(max(count, 1) - 1, 20)
        return timedelta(seconds=min(seconds, self.longest.total_seconds()))

    def spent(self, count: int) -> bool:
        return self.most is not None and count > self.most


@dataclass(frozen=True, slots=True)
class Tally:
    """The number of tries that ended by causes of a kind.

    failures: in all. disruptions: in a row, reset once a try ran for the policy's `reset_after`. starts, inputs,
    refusals: in a row, without a try between them that started, found its inputs, or got access.
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
    """The retry policy. limits: by counter of the Tally. counted_as: the counter of a cause, if not the default one."""

    limits: Mapping[str, Limit]
    counted_as: Mapping[Cause, str] = field(default_factory=dict)
    reset_after: timedelta = timedelta.max
    never: NeverRetry = field(default_factory=NeverRetry)

    def cause(self, failure: Failure | None) -> Cause:
        return cause_of(failure, self.never)

    def counter(self, cause: Cause) -> str | None:
        """Return the counter of a cause; None for a cause without a retry."""
        final = cause in (Cause.INCURABLE, Cause.INPUT_ALTERED)
        return self.counted_as.get(cause, None if final else _COUNTERS.get(cause, "failures"))

    def counted(self, tally: Tally, cause: Cause, ran: timedelta) -> Tally:
        """Return the tally after a try that this cause ended. ran: the time for which all of its pods ran."""
        name = self.counter(cause)
        if name is None:
            return tally
        forgiven = name == "disruptions" and ran >= self.reset_after
        return replace(tally, **{name: 1 if forgiven else getattr(tally, name) + 1})

    def spent(self, tally: Tally, cause: Cause) -> bool:
        """Return True if no retry follows."""
        name = self.counter(cause)
        return name is None or self.limits[name].spent(getattr(tally, name))

    def retry_at(self, tally: Tally, cause: Cause, ended_at: datetime) -> datetime | None:
        """Return when the next try starts; None if none follows."""
        name = self.counter(cause)
        if name is None or self.spent(tally, cause):
            return None
        return ended_at + self.limits[name].wait(getattr(tally, name))
