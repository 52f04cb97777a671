"""The errors of Slipway, what follows from each, and the findings of checks.

SlipwayError
  SpecError      the user can fix it: field, problem, cure    -> Stalled=True, no retry
  InputError     a file that a command reads is wrong         -> the command ends, with a line for each error
  ClusterError   the API server refused or did not answer     -> back-off, Reconciling=True
    Conflict       another client wrote first                 -> observe again at once
    AlreadyExists  the name is taken                          -> adopt if we own it
    NotFound       the object is gone
    Forbidden      a right is missing                         -> back-off; the message names verb and resource
    Invalid        admission refused the object               -> back-off; Slipway or the spec has a defect
  ArtifactError  an artifact is incomplete or altered         -> the step that reads it fails
    OutputError    a script left no model                     -> not retried
    InputMissing   an input is no longer in the store         -> not counted; the step that made it runs again
  StoreError     the store refuses a key, bucket or right     -> the task fails; the message names the field
    StoreAway      the store does not answer                  -> the task is tried again
  PluginError    one plugin failed or refused its model       -> Stalled=True on the objects that name it
    ContractError  the plugin broke its contract              -> its author must fix it
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple


class SlipwayError(Exception):
    """Base of every error that Slipway raises on purpose."""


class SpecError(SlipwayError):
    """A field of a resource has a value that cannot work.

    field: path from the resource's root, such as `spec.compression.steps[0].params.ratio`.
    cure: what to write instead, as an imperative.
    """

    def __init__(self, field: str, problem: str, cure: str, reason: str = "InvalidSpec") -> None:
        super().__init__(f"{field}: {problem}; {cure}")
        self.field = field
        self.problem = problem
        self.cure = cure
        self.reason = reason


class InputError(SlipwayError):
    """Files that a user named cannot be read, or their content is wrong.

    lines: one for each error. absent: True if every error is a file that does not exist.
    """

    def __init__(self, lines: Sequence[str], *, absent: bool = False) -> None:
        super().__init__("; ".join(lines))
        self.lines = tuple(lines)
        self.absent = absent


class ClusterError(SlipwayError):
    """The API server refused a call or did not answer; a later try may pass.

    retry_after_seconds: the delay that the server asked for (429 with Retry-After), None without one.
    """

    def __init__(self, message: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class Conflict(ClusterError):
    """409: the resourceVersion or UID that the write was decided on is no longer the object's."""


class AlreadyExists(ClusterError):
    """409 on create: an object of that name exists."""


class NotFound(ClusterError):
    """404: no such object, or no such kind."""


class Forbidden(ClusterError):
    """401 or 403: the operator's account lacks the right."""


class Invalid(ClusterError):
    """400 or 422: the API server refused the object itself."""


class ArtifactError(SlipwayError):
    """An artifact is missing, incomplete, or has another digest than its reference."""


class OutputError(ArtifactError):
    """The output folder of a script does not contain a model that can be sealed."""


class InputMissing(ArtifactError):
    """The store has no artifact at the location of a task's input: the folder is empty, or has no manifest.

    A kubelet creates an empty folder for a subPath that does not exist, so the pod starts and fails here.
    """

    digest: str | None = None
    """Digest of the artifact, if the task names one."""


class StoreError(SlipwayError):
    """A store refuses a request of a pod, and will refuse it until the user acts.

    field: path from the ArtifactStore's root, such as `spec.s3.bucket`. cure: the action, as an imperative.
    """

    def __init__(self, field: str, problem: str, cure: str) -> None:
        super().__init__(f"{field} of the ArtifactStore: {problem}; {cure}")
        self.field = field


class StoreAway(StoreError):
    """The store cannot be reached, or does not answer in time; a later try may pass."""


class PluginError(SlipwayError):
    """A plugin could not be loaded, refused its input or failed; the message carries the plugin's name."""


class ContractError(PluginError):
    """A plugin broke its contract, independent of the model: only its author can fix it."""


Level = Literal["ok", "warn", "fail"]


class Finding(NamedTuple):
    """The result of one check, one line for people. cure: what to do; empty if the check passed."""

    check: str
    level: Level
    what: str
    cure: str = ""


def finding_of(check: str, problems: list[str], passed: str, cure: str) -> Finding:
    """Return a failure that names every problem, or `passed` without one."""
    return Finding(check, "fail", "; ".join(problems), cure) if problems else Finding(check, "ok", passed)


def pluralize(count: int, noun: str, plural: str = "") -> str:
    """Return `1 pod` or `2 pods`. plural: needed if it is not the noun with an s."""
    return f"{count} {noun if count == 1 else plural or f'{noun}s'}"
