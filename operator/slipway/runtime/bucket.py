"""One bucket, by s3fs: whole objects, no listing from memory. StoreError crosses, and OSError of the pod's own disk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from slipway.api.artifactstore import S3Store
from slipway.api.tasks import S3_SECRET_ENV
from slipway.runtime import s3errors

if TYPE_CHECKING:
    import s3fs

PART_BYTES = 16 * 1024 * 1024
"""Of what is sent or fetched in parts; CONCURRENCY of them are in memory."""
CONCURRENCY = 4
MAX_PARTS = 10_000
"""Of one object (Amazon S3's limit)."""
CONNECT_SECONDS, READ_SECONDS, ATTEMPTS = 5, 60, 4
RECOVERIES = 2
"""s3fs repeats what botocore gave up: only it takes up a body whose connection was cut."""


class Read(NamedTuple):
    """version: the ETag, for a conditional write."""

    data: bytes
    version: str


class Bucket:
    """Keys are below the store's prefix. keys: the Secret's values by its keys; ca: a file of certificates to trust."""

    def __init__(self, s3: S3Store, keys: Mapping[str, str], ca: Path | None = None) -> None:
        self._s3, self._keys, self._ca = s3, keys, ca

    @classmethod
    def of(
        cls, s3: S3Store, environment: Mapping[str, str], scratch: Path, names: Mapping[str, str] = S3_SECRET_ENV
    ) -> Bucket:
        """By the variables of a pod. names: that of each key of the Secret."""
        keys = {key: environment[name] for key, name in names.items() if environment.get(name)}
        if (bundle := keys.get("AWS_CA_BUNDLE")) is None:
            return cls(s3, keys)
        ca = scratch / f"{names['AWS_CA_BUNDLE']}.pem"
        ca.parent.mkdir(parents=True, exist_ok=True)
        ca.write_text(bundle)
        return cls(s3, keys, ca)

    def url(self, key: str = "") -> str:
        """For messages."""
        return f"s3://{self._place(key)}"

    def download(self, key: str, target: Path) -> bool:
        """Into a file; False where there is no such object."""
        with self._named("read"):
            try:
                self._fs.get_file(self._place(key), str(target))
            except FileNotFoundError as error:
                return s3errors.no_such_key(error)
        return True

    def upload(self, source: Path, key: str) -> None:
        """A file, as one object or none."""
        part = max(PART_BYTES, -(-source.stat().st_size // MAX_PARTS))
        with self._named("write"):
            self._fs.put_file(str(source), self._place(key), chunksize=part)

    def read(self, key: str) -> Read | None:
        """A small object; None where there is none."""
        from fsspec.asyn import sync

        with self._named("read"):
            try:
                answer = self._call("get_object", key)
            except FileNotFoundError as error:
                s3errors.no_such_key(error)
                return None
            return Read(sync(self._fs.loop, answer["Body"].read), answer["ETag"])

    def write(self, key: str, data: bytes) -> None:
        with self._named("write"):
            self._call("put_object", key, Body=data)

    def create(self, key: str, data: bytes) -> bool:
        """False where there is an object of that key already."""
        return self._on_condition(key, data, IfNoneMatch="*")

    def replace(self, key: str, data: bytes, version: str) -> bool:
        """False where the object is no longer the one that was read."""
        return self._on_condition(key, data, IfMatch=version)

    def list(self, folder: str, start: str = "") -> list[tuple[str, int]]:
        """Keys right below a folder whose names begin so, and their sizes."""
        below = f"{self._s3.prefix}/" if self._s3.prefix else ""
        more: dict[str, str] = {}
        found: list[tuple[str, int]] = []
        with self._named("list"):
            while True:
                page = self._fs.call_s3(
                    "list_objects_v2", Bucket=self._s3.bucket, Prefix=f"{below}{folder}/{start}", Delimiter="/", **more
                )
                found += [(one["Key"].removeprefix(below), one["Size"]) for one in page.get("Contents", ())]
                if not page.get("IsTruncated"):
                    return sorted(found)
                more = {"ContinuationToken": page["NextContinuationToken"]}

    def _on_condition(self, key: str, data: bytes, **condition: str) -> bool:
        with self._named("write"):
            try:
                self._call("put_object", key, Body=data, **condition)
            except OSError as error:
                if s3errors.code_of(error) in s3errors.CONDITION_FAILED:
                    return False
                raise
        return True

    def _call(self, method: str, key: str, **more: Any) -> Any:
        bucket, _, path = self._place(key).partition("/")
        return self._fs.call_s3(method, Bucket=bucket, Key=path, **more)

    def _place(self, key: str) -> str:
        return "/".join(part for part in (self._s3.bucket, self._s3.prefix, key) if part)

    @contextmanager
    def _named(self, deed: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if (named := s3errors.named(error, self._s3, deed)) is None:
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
