"""One bucket, by s3fs: whole objects, no cached listings. Raises StoreError, and OSError of the pod's own disk.

A refusal of S3 becomes a StoreError that names the field of the ArtifactStore and the cure. Codes: Amazon S3 API
Reference, "Error responses"; other services use the same codes, or a bare HTTP status.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from slipway.api.artifactstore import S3Store
from slipway.api.errors import StoreAway, StoreError
from slipway.api.tasks import S3_SECRET_ENV

if TYPE_CHECKING:
    import s3fs

PART_BYTES = 16 * 1024 * 1024
"""Size of a part of an upload or download; CONCURRENCY parts are in memory."""
CONCURRENCY = 4
MAX_PARTS = 10_000
"""Largest number of parts of one object (Amazon S3's limit)."""
CONNECT_SECONDS, READ_SECONDS, ATTEMPTS = 5, 60, 4
RECOVERIES = 2
"""Retries of s3fs after those of botocore: only s3fs resumes a body whose connection was lost."""


class Read(NamedTuple):
    """An object's content. version: the ETag, for a conditional write."""

    data: bytes
    version: str


class Bucket:
    """A bucket, whose keys are below the store's prefix.

    keys: the Secret's values by its keys. ca: a file of certificates to trust.
    """

    def __init__(self, s3: S3Store, keys: Mapping[str, str], ca: Path | None = None) -> None:
        self._s3, self._keys, self._ca = s3, keys, ca

    @classmethod
    def from_environment(
        cls, s3: S3Store, environment: Mapping[str, str], scratch: Path, names: Mapping[str, str] = S3_SECRET_ENV
    ) -> Bucket:
        """Return the bucket by the variables of a pod. names: the variable of each key of the Secret."""
        keys = {key: environment[name] for key, name in names.items() if environment.get(name)}
        if (bundle := keys.get("AWS_CA_BUNDLE")) is None:
            return cls(s3, keys)
        ca = scratch / f"{names['AWS_CA_BUNDLE']}.pem"
        ca.parent.mkdir(parents=True, exist_ok=True)
        ca.write_text(bundle)
        return cls(s3, keys, ca)

    def url(self, key: str = "") -> str:
        """Return the URL of a key, for messages."""
        return f"s3://{self._place(key)}"

    def download(self, key: str, target: Path) -> bool:
        """Download an object into a file; False if there is none."""
        with self._store_errors("read"):
            try:
                self._fs.get_file(self._place(key), str(target))
            except FileNotFoundError as error:
                return _no_such_key(error)
        return True

    def upload(self, source: Path, key: str) -> None:
        """Upload a file as one object, all of it or nothing."""
        part = max(PART_BYTES, -(-source.stat().st_size // MAX_PARTS))
        with self._store_errors("write"):
            self._fs.put_file(str(source), self._place(key), chunksize=part)

    def read(self, key: str) -> Read | None:
        """Return a small object; None if there is none."""
        from fsspec.asyn import sync

        with self._store_errors("read"):
            try:
                answer = self._call("get_object", key)
            except FileNotFoundError as error:
                _no_such_key(error)
                return None
            return Read(sync(self._fs.loop, answer["Body"].read), answer["ETag"])

    def write(self, key: str, data: bytes) -> None:
        with self._store_errors("write"):
            self._call("put_object", key, Body=data)

    def create(self, key: str, data: bytes) -> bool:
        """Create an object; False if the key exists."""
        return self._on_condition(key, data, IfNoneMatch="*")

    def replace(self, key: str, data: bytes, version: str) -> bool:
        """Replace an object; False if it has changed since it was read."""
        return self._on_condition(key, data, IfMatch=version)

    def list(self, folder: str, start: str = "") -> list[tuple[str, int]]:
        """Return the keys right below a folder whose names begin with `start`, and their sizes."""
        below = f"{self._s3.prefix}/" if self._s3.prefix else ""
        more: dict[str, str] = {}
        found: list[tuple[str, int]] = []
        with self._store_errors("list"):
            while True:
                page = self._fs.call_s3(
                    "list_objects_v2", Bucket=self._s3.bucket, Prefix=f"{below}{folder}/{start}", Delimiter="/", **more
                )
                found += [(one["Key"].removeprefix(below), one["Size"]) for one in page.get("Contents", ())]
                if not page.get("IsTruncated"):
                    return sorted(found)
                more = {"ContinuationToken": page["NextContinuationToken"]}

    def _on_condition(self, key: str, data: bytes, **condition: str) -> bool:
        with self._store_errors("write"):
            try:
                self._call("put_object", key, Body=data, **condition)
            except OSError as error:
                if _code_of(error) in CONDITION_FAILED:
                    return False
                raise
        return True

    def _call(self, method: str, key: str, **more: Any) -> Any:
        bucket, _, path = self._place(key).partition("/")
        return self._fs.call_s3(method, Bucket=bucket, Key=path, **more)

    def _place(self, key: str) -> str:
        return "/".join(part for part in (self._s3.bucket, self._s3.prefix, key) if part)

    @contextmanager
    def _store_errors(self, operation: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if (named := store_error(error, self._s3, operation)) is None:
                raise
            raise named from error

    @cached_property
    def _fs(self) -> s3fs.S3FileSystem:
        import s3fs

        style = "path" if self._s3.path_style else "auto"
        client = {"region_name": self._s3.region or "us-east-1", "verify": str(self._ca) if self._ca else None}
        found = s3fs.S3FileSystem(
            key=self._keys.get("AWS_ACCESS_KEY_ID"),
            secret=self._keys.get("AWS_SECRET_ACCESS_KEY"),
            token=self._keys.get("AWS_SESSION_TOKEN"),
            endpoint_url=self._s3.endpoint,
            client_kwargs=client,
            config_kwargs={
                "s3": {"addressing_style": style},
                "retries": {"mode": "standard", "total_max_attempts": ATTEMPTS},
                "connect_timeout": CONNECT_SECONDS,
                "read_timeout": READ_SECONDS,
            },
            default_block_size=PART_BYTES,
            max_concurrency=CONCURRENCY,
            use_listings_cache=False,
            skip_instance_cache=True,
        )
        found.retries = RECOVERIES
        return found


CONDITION_FAILED = frozenset({"PreconditionFailed", "412", "ConditionalRequestConflict", "OperationAborted", "409"})
"""Codes for a write that another client made first."""

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


def store_error(error: BaseException, s3: S3Store, operation: str) -> StoreError | None:
    """Return the error with the store's field; None if it is not the store's. operation: list, read or write."""
    if isinstance(error, StoreError):
        return error
    if (code := _code_of(error)) is not None:
        return _refused(code, _message_of(error), s3, operation)
    return _connection_error(error, s3)


def _code_of(error: BaseException) -> str | None:
    """Return S3's own code for the error; None if there was no answer."""
    answer = _answer(error)
    return str(answer["Error"].get("Code", "")) if answer is not None else None


def _no_such_key(error: FileNotFoundError) -> bool:
    """Return False: there is no such object. Raises the error if the bucket is missing."""
    if _code_of(error) == "NoSuchBucket":
        raise error
    return False


def _refused(code: str, message: str, s3: S3Store, operation: str) -> StoreError:
    where = s3.endpoint or "Amazon S3"
    key, key_field = _key(s3)
    if code == "NoSuchBucket":
        cure = "create it, or name another in a new ArtifactStore"
        return StoreError("spec.s3.bucket", f"there is no bucket {s3.bucket} at {where}", cure)
    if code in _BAD_KEY:
        cure = "replace it by one that the service accepts"
        return StoreError(key_field, f"{key} is not accepted by {where} ({code})", cure)
    if code in _EXPIRED:
        return StoreError(key_field, f"{key} has expired ({code})", "replace it by a new one")
    if code in _DENIED:
        cure = f"allow {_RIGHTS[operation]} on bucket {s3.bucket}, or use another key"
        return StoreError(key_field, f"{key} may not {operation} in bucket {s3.bucket} ({code})", cure)
    if code in _WRONG_REGION:
        problem = f"bucket {s3.bucket} is not in {s3.region or 'us-east-1'} ({code}: {message})"
        return StoreError("spec.s3.region", problem, "name the bucket's region in a new ArtifactStore")
    if code == "RequestTimeTooSkewed":
        return StoreError("spec.s3.endpoint", f"{where} has a clock that differs from the node's", "set the clocks")
    if code in _AWAY:
        return _away(s3, f"{code}: {message}")
    return StoreError(
        "spec.s3",
        f"{where} refuses to {operation} in bucket {s3.bucket} ({code}: {message})",
        "see the log of the service",
    )


def _connection_error(error: BaseException, s3: S3Store) -> StoreError | None:
    """Return the error of a request that got no answer."""
    import aiohttp
    from botocore import exceptions as boto

    key, key_field = _key(s3)
    if isinstance(error, boto.NoCredentialsError | boto.PartialCredentialsError | boto.CredentialRetrievalError):
        return StoreError(
            key_field,
            f"{key} gives the pod no credentials ({error})",
            "check the service account's role, or the Secret",
        )
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        cure = "write the authority's certificates (PEM) as AWS_CA_BUNDLE into the Secret of spec.s3.secretRef"
        return StoreError("spec.s3.endpoint", f"the certificate of {s3.endpoint} is not trusted ({error})", cure)
    if isinstance(error, boto.SSLError):
        problem = f"{s3.endpoint or 'Amazon S3'} does not complete the TLS handshake ({error})"
        return StoreError("spec.s3.endpoint", problem, "use http:// in a new ArtifactStore if it has no TLS")
    cut = (boto.ConnectionError, boto.HTTPClientError, boto.ResponseStreamingError, boto.IncompleteReadError)
    if isinstance(error, cut):
        return _away(s3, str(error))
    if isinstance(error, aiohttp.ClientError | TimeoutError | ConnectionError):
        return _away(s3, str(error) or type(error).__name__)
    if isinstance(error, boto.BotoCoreError):
        return StoreError("spec.s3", str(error), "correct it in a new ArtifactStore")
    return None


def _away(s3: S3Store, why: str) -> StoreAway:
    cure = "check that it runs, and that pods can connect to it"
    return StoreAway("spec.s3.endpoint", f"{s3.endpoint or 'Amazon S3'} does not answer ({why})", cure)


def _key(s3: S3Store) -> tuple[str, str]:
    """Return the source of the pod's key, and the field that names it."""
    if s3.secret_ref is not None:
        return f"the key in Secret {s3.secret_ref.name}", "spec.s3.secretRef"
    return f"service account {s3.service_account_name}", "spec.s3.serviceAccountName"


def _message_of(error: BaseException) -> str:
    answer = _answer(error)
    return str((answer or {}).get("Error", {}).get("Message", ""))[:200]


def _answer(error: BaseException | None) -> dict[str, Any] | None:
    """Return S3's answer: botocore's ClientError has it, and s3fs raises a plain OSError from that."""
    while error is not None:
        answer: dict[str, Any] | None = getattr(error, "response", None)
        if isinstance(answer, dict) and "Error" in answer:
            return answer
        error = error.__cause__
    return None
