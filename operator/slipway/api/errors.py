"""The errors of Slipway, and what follows from each.

SlipwayError
  SpecError      the user can cure it: field, problem, cure   -> Stalled=True, no retry
  InputError     a file that a command reads is wrong         -> the command ends; a line for each error
  ClusterError   the API server refused or was away           -> back-off, Reconciling=True
    Conflict       somebody else wrote first                  -> observe again at once
    AlreadyExists  the name is taken                          -> adopt if we own it
    NotFound       the object is gone
    Forbidden      a right is missing                         -> back-off; the message names verb and resource
    Invalid        admission refused the object               -> a defect of ours or of the spec; back-off
  ArtifactError  an artifact is cut or altered                -> the step that reads it fails
    OutputError    a script left no model                     -> not retried
    InputMissing   an input is no longer in the store         -> not counted; what made it runs again
  StoreError     the store refuses: key, bucket, right        -> what needs it fails; the message names the field
    StoreAway      the store does not answer                  -> tasks are tried again
  PluginError    one plugin failed or refused its model       -> Stalled=True on the objects that name it
    ContractError  it broke its contract: its author's to mend
"""

from __future__ import annotations

from collections.abc import Sequence


class SlipwayError(Exception):
    """The root: whoever catches it handles every error that Slipway raises on purpose."""


class SpecError(SlipwayError):
    """Something a user wrote cannot work.

    field: path from the resource's root, as in `spec.compression.steps[0].params.ratio`.
    cure: what to write instead, as an imperative.
    """

    def __init__(self, field: str, problem: str, cure: str, reason: str = "InvalidSpec") -> None:
        super().__init__(f"{field}: {problem}; {cure}")
        self.field = field
        self.problem = problem
        self.cure = cure
        self.reason = reason


class InputError(SlipwayError):
    """Files that a user named cannot be read, or what is in them is wrong.

    lines: one for each error. absent: every one of them is a file that does not exist.
    """

    def __init__(self, lines: Sequence[str], *, absent: bool = False) -> None:
        super().__init__("; ".join(lines))
        self.lines = tuple(lines)
        self.absent = absent


class ClusterError(SlipwayError):
    """The API server refused a call or did not answer; a later try may pass.

    retry_after_seconds: what the server asked for (429 with Retry-After), None where it asked for nothing.
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
    """An artifact is missing, incomplete, or does not have the digest that was asked for."""


class OutputError(ArtifactError):
    """What a script left in its output folder is no model that can be sealed."""


class InputMissing(ArtifactError):
    """The store has nothing where a task's input should lie: the folder is empty, or has no manifest.

    A kubelet makes an empty folder of a subPath that is not there, so a pod starts all the same and finds out here.
    """

    digest: str | None = None
    """The artifact's, where the task named one."""


class StoreError(SlipwayError):
    """A store refuses what a pod asks of it; until somebody acts it always will.

    field: path from the ArtifactStore's root, as in `spec.s3.bucket`. cure: what to do, as an imperative.
    """

    def __init__(self, field: str, problem: str, cure: str) -> None:
        super().__init__(f"{field} of the ArtifactStore: {problem}; {cure}")
        self.field = field


class StoreAway(StoreError):
    """The store cannot be reached, or does not answer in time; a later try may pass."""


class PluginError(SlipwayError):
    """A plugin could not be loaded, refused its input or failed; the message carries the plugin's name."""


class ContractError(PluginError):
    """A plugin broke its contract, whatever the model: only its author can cure it."""
