"""A real S3 service as a process of this machine: SeaweedFS, with a key that may do all and one that may only read."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.servers import free_ports, running
from support.stores import RemoteStore

BUCKET = "artifacts"
ADMIN = {"AWS_ACCESS_KEY_ID": "admin", "AWS_SECRET_ACCESS_KEY": "admin-secret"}
READER = {"AWS_ACCESS_KEY_ID": "reader", "AWS_SECRET_ACCESS_KEY": "reader-secret"}
START_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Seaweed:
    """A service that runs, with the bucket BUCKET."""

    endpoint: str

    def spec(self, **more: Any) -> dict[str, Any]:
        """An ArtifactStore's spec.s3."""
        return {"bucket": BUCKET, "endpoint": self.endpoint, "secretRef": {"name": "store"}, **more}

    def store(self, disk: Path, keys: dict[str, str] = ADMIN, **more: Any) -> RemoteStore:
        """The bucket as pods know it. more: fields of spec.s3."""
        return RemoteStore(self.spec(**more), keys, disk)

    @property
    def files(self) -> Any:
        """An s3fs.S3FileSystem, for looking at what lies in the bucket and for meddling with it."""
        import s3fs

        return s3fs.S3FileSystem(
            key=ADMIN["AWS_ACCESS_KEY_ID"],
            secret=ADMIN["AWS_SECRET_ACCESS_KEY"],
            endpoint_url=self.endpoint,
            use_listings_cache=False,
            skip_instance_cache=True,
        )


@contextmanager
def seaweed(folder: Path, address: str = "127.0.0.1") -> Iterator[Seaweed]:
    """The service until the block ends. address: one of this machine's, by which clients reach it."""
    program = Path(sys.executable).with_name("weed")
    identities, log = folder / "identities.json", folder / "weed.log"
    everybody = [_identity(ADMIN, "Admin", "Read", "Write", "List"), _identity(READER, "Read", "List")]
    identities.write_text(json.dumps({"identities": everybody}))
    command = [
        str(program),
        "server",
        "-s3",
        f"-dir={folder}",
        f"-ip={address}",
        f"-ip.bind={address}",
        f"-s3.config={identities}",
        "-master.volumeSizeLimitMB=64",
        "-master.telemetry=false",
        "-s3.port.iceberg=0",  # these two have ports of their own otherwise, which another run may have taken
        "-s3.port.lance=0",
        "-volume.max=20",
        # Of fixed ports, and of no use here: two services on one machine would be in each other's way.
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
    ]
    ports = iter(free_ports(8))
    port = {name: next(ports) for name in ("master", "volume", "filer", "s3")}
    for name, number in port.items():
        command += [f"-{name}.port={number}", f"-{name}.port.grpc={next(ports)}"]
    service = Seaweed(f"http://{address}:{port['s3']}")
    with running(command, f"{service.endpoint}/healthz", log, environment={**os.environ, "HOME": str(folder)}):
        _make_bucket(service)
        yield service


def _identity(keys: dict[str, str], *actions: str) -> dict[str, Any]:
    name, secret = keys["AWS_ACCESS_KEY_ID"], keys["AWS_SECRET_ACCESS_KEY"]
    return {"name": name, "credentials": [{"accessKey": name, "secretKey": secret}], "actions": list(actions)}


def _make_bucket(service: Seaweed) -> None:
    """It takes objects only a while after it says that it is ready."""
    deadline = time.monotonic() + START_SECONDS
    files = service.files
    while True:
        try:
            if not files.exists(BUCKET):
                files.mkdir(BUCKET)
            files.pipe_file(f"{BUCKET}/ready", b"yes")
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            return


@pytest.fixture(scope="session", name="seaweed")
def running_seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    """One service for all tests of a run: each takes a prefix of its own."""
    with seaweed(tmp_path_factory.mktemp("seaweed")) as service:
        yield service
