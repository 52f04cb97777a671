"""What a refusal of S3 means for whoever wrote the ArtifactStore: the field, and the cure.

Codes: Amazon S3 API Reference, "Error responses"; services that speak S3 use the same, or a bare HTTP status.
"""

from __future__ import annotations

from typing import Any

from slipway.api.artifactstore import S3Store
from slipway.api.errors import StoreAway, StoreError

CONDITION_FAILED = frozenset({"PreconditionFailed", "412", "ConditionalRequestConflict", "OperationAborted", "409"})
"""Somebody else wrote first."""

_BAD_KEY = frozenset({"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "InvalidSecurity", "NotSignedUp"})
_EXPIRED = frozenset({"ExpiredToken", "TokenRefreshRequired"})
_DENIED = frozenset({"AccessDenied", "AllAccessDisabled", "AccountProblem", "403", "MethodNotAllowed", "405"})
_WRONG_REGION = frozenset(
    {
        "PermanentRedirect",
        "TemporaryRedirect",
        "301",
        "307",
        "AuthorizationHeaderMalformed",
        "IllegalLocationConstraintException",
    }
)
_AWAY = frozenset({"ServiceUnavailable", "SlowDown", "InternalError", "RequestTimeout", "500", "502", "503", "504"})
_RIGHTS = {"list": "s3:ListBucket", "read": "s3:GetObject", "write": "s3:PutObject"}


def named(error: BaseException, s3: S3Store, deed: str) -> StoreError | None:
    """The error by the store's field; None for one that is not the store's. deed: list, read or write."""
    if isinstance(error, StoreError):
        return error
    if (code := code_of(error)) is not None:
        return _refused(code, _message_of(error), s3, deed)
    return _unheard(error, s3)


def code_of(error: BaseException) -> str | None:
    """S3's own code for the error; None where no answer came."""
    answer = _answer(error)
    return str(answer["Error"].get("Code", "")) if answer is not None else None


def no_such_key(error: FileNotFoundError) -> bool:
    """False: the object is not there. Raises the error where it is the bucket that is missing."""
    if code_of(error) == "NoSuchBucket":
        raise error
    return False


def _refused(code: str, message: str, s3: S3Store, deed: str) -> StoreError:
    where = s3.endpoint or "Amazon S3"
    key, key_field = _key(s3)
    if code == "NoSuchBucket":
        cure = "create it, or name another in a new ArtifactStore"
        return StoreError("spec.s3.bucket", f"there is no bucket {s3.bucket} at {where}", cure)
    if code in _BAD_KEY:
        cure = "write the key that the service knows into it"
        return StoreError(key_field, f"{key} is not accepted by {where} ({code})", cure)
    if code in _EXPIRED:
        return StoreError(key_field, f"{key} has expired ({code})", "write a new one into it")
    if code in _DENIED:
        cure = f"allow {_RIGHTS[deed]} on bucket {s3.bucket}, or use another key"
        return StoreError(key_field, f"{key} may not {deed} in bucket {s3.bucket} ({code})", cure)
    if code in _WRONG_REGION:
        problem = f"bucket {s3.bucket} is not in {s3.region or 'us-east-1'} ({code}: {message})"
        return StoreError("spec.s3.region", problem, "name the bucket's region in a new ArtifactStore")
    if code == "RequestTimeTooSkewed":
        return StoreError("spec.s3.endpoint", f"{where} has another time than the node", "set the clocks")
    if code in _AWAY:
        return _away(s3, f"{code}: {message}")
    return StoreError("spec.s3", f"{where} refuses to {deed} in bucket {s3.bucket} ({code}: {message})", "see its log")


def _unheard(error: BaseException, s3: S3Store) -> StoreError | None:
    """For what went wrong before an answer came."""
    import aiohttp
    from botocore import exceptions as boto

    key, key_field = _key(s3)
    if isinstance(error, boto.NoCredentialsError | boto.PartialCredentialsError | boto.CredentialRetrievalError):
        return StoreError(key_field, f"{key} gives the pod no key ({error})", "see that it does")
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        cure = "write the authority's certificates (PEM) as AWS_CA_BUNDLE into the Secret of spec.s3.secretRef"
        return StoreError("spec.s3.endpoint", f"the certificate of {s3.endpoint} is not trusted ({error})", cure)
    if isinstance(error, boto.SSLError):
        problem = f"{s3.endpoint or 'Amazon S3'} does not speak TLS as it should ({error})"
        return StoreError("spec.s3.endpoint", problem, "write http:// in a new ArtifactStore where it has none")
    cut = (boto.ConnectionError, boto.HTTPClientError, boto.ResponseStreamingError, boto.IncompleteReadError)
    if isinstance(error, cut):
        return _away(s3, str(error))
    if isinstance(error, aiohttp.ClientError | TimeoutError | ConnectionError):
        return _away(s3, str(error) or type(error).__name__)
    if isinstance(error, boto.BotoCoreError):
        return StoreError("spec.s3", str(error), "correct it in a new ArtifactStore")
    return None


def _away(s3: S3Store, why: str) -> StoreAway:
    cure = "see that it runs, and that pods may reach it"
    return StoreAway("spec.s3.endpoint", f"{s3.endpoint or 'Amazon S3'} does not answer as it should ({why})", cure)


def _key(s3: S3Store) -> tuple[str, str]:
    """What gives the pod its key, and the field that names it."""
    if s3.secret_ref is not None:
        return f"the key in Secret {s3.secret_ref.name}", "spec.s3.secretRef"
    return f"service account {s3.service_account_name}", "spec.s3.serviceAccountName"


def _message_of(error: BaseException) -> str:
    answer = _answer(error)
    return str((answer or {}).get("Error", {}).get("Message", ""))[:200]


def _answer(error: BaseException | None) -> dict[str, Any] | None:
    """botocore's ClientError keeps S3's answer; s3fs raises a plain OSError from it."""
    while error is not None:
        answer: dict[str, Any] | None = getattr(error, "response", None)
        if isinstance(answer, dict) and "Error" in answer:
            return answer
        error = error.__cause__
    return None
