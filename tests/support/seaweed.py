"""A real S3 service as a process of this machine: SeaweedFS.

It has a key that may do all, one that may only read, and one for each of two buckets that may nothing in the other.
"""

from __future__ import annotations

import json
import os
import subprocess
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

ADDRESS = "127.0.0.1"
BUCKET, HELD_OUT_BUCKET = "artifacts", "held-out"
ADMIN = {"AWS_ACCESS_KEY_ID": "admin", "AWS_SECRET_ACCESS_KEY": "admin-secret"}
READER = {"AWS_ACCESS_KEY_ID": "reader", "AWS_SECRET_ACCESS_KEY": "reader-secret"}
OF_PLUGINS = {"AWS_ACCESS_KEY_ID": "plugins", "AWS_SECRET_ACCESS_KEY": "plugins-secret"}
OF_EVALUATION = {"AWS_ACCESS_KEY_ID": "evaluation", "AWS_SECRET_ACCESS_KEY": "evaluation-secret"}
START_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Seaweed:
    """A service that runs, with the bucket BUCKET. ca: what its certificate is checked by; None without TLS."""

    endpoint: str
    ca: Path | None = None

    def spec(self, **more: Any) -> dict[str, Any]:
        """An ArtifactStore's spec.s3."""
        return {"bucket": BUCKET, "endpoint": self.endpoint, "secretRef": {"name": "store"}, **more}

    def store(self, disk: Path, keys: dict[str, str] = ADMIN, **more: Any) -> RemoteStore:
        """The bucket as pods know it. more: fields of spec.s3."""
        return RemoteStore(self.spec(**more), keys, disk)

    @property
    def files(self) -> Any:
        """An s3fs.S3FileSystem, for looking at what lies in the bucket and for meddling with it."""
        return self.files_by(ADMIN)

    def files_by(self, keys: dict[str, str]) -> Any:
        """The same with other keys."""
        import s3fs

        return s3fs.S3FileSystem(
            key=keys["AWS_ACCESS_KEY_ID"],
            secret=keys["AWS_SECRET_ACCESS_KEY"],
            endpoint_url=self.endpoint,
            client_kwargs={"verify": str(self.ca) if self.ca else None},
            use_listings_cache=False,
            skip_instance_cache=True,
        )


@contextmanager
def seaweed(folder: Path, *, tls: bool = False) -> Iterator[Seaweed]:
    """The service until the block ends. tls: with a certificate of its own, which nobody trusts."""
    program = Path(sys.executable).with_name("weed")
    identities, log = folder / "identities.json", folder / "weed.log"
    everybody = [_identity(ADMIN, "Admin", "Read", "Write", "List"), _identity(READER, "Read", "List")]
    for keys, bucket in ((OF_PLUGINS, BUCKET), (OF_EVALUATION, HELD_OUT_BUCKET)):
        everybody.append(_identity(keys, *(f"{action}:{bucket}" for action in ("Read", "Write", "List"))))
    identities.write_text(json.dumps({"identities": everybody}))
    command = [
        str(program),
        "server",
        "-s3",
        f"-dir={folder}",
        f"-ip={ADDRESS}",
        f"-ip.bind={ADDRESS}",
        f"-s3.config={identities}",
        "-master.volumeSizeLimitMB=64",
        "-master.telemetry=false",
        "-volume.max=20",
        # Of fixed ports, and of no use here: two services on one machine would be in each other's way.
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
    ]
    ports = iter(free_ports(8))
    port = {name: next(ports) for name in ("master", "volume", "filer", "s3")}
    for name, number in port.items():
        command += [f"-{name}.port={number}", f"-{name}.port.grpc={next(ports)}"]
    service = Seaweed(f"http://{ADDRESS}:{port['s3']}")
    if tls:
        certificate, key = _self_signed(folder)
        command += [f"-s3.cert.file={certificate}", f"-s3.key.file={key}"]
        service = Seaweed(service.endpoint.replace("http:", "https:"), certificate)
    ready = f"http://{ADDRESS}:{port['filer']}/healthz"
    home = {**os.environ, "HOME": str(folder)}
    with running(command, ready, log, environment=home, stop_seconds=2):  # its goodbyes take 25 s
        _make_buckets(service)
        yield service


def _self_signed(folder: Path) -> tuple[Path, Path]:
    certificate, key = folder / "tls.crt", folder / "tls.key"
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=s3", "-addext", f"subjectAltName=IP:{ADDRESS}"]
    subprocess.run([*make, *names, "-keyout", key, "-out", certificate], check=True, capture_output=True, timeout=30)
    return certificate, key


def _identity(keys: dict[str, str], *actions: str) -> dict[str, Any]:
    name, secret = keys["AWS_ACCESS_KEY_ID"], keys["AWS_SECRET_ACCESS_KEY"]
    return {"name": name, "credentials": [{"accessKey": name, "secretKey": secret}], "actions": list(actions)}


def _make_buckets(service: Seaweed) -> None:
    """It takes objects only a while after it says that it is ready."""
    deadline = time.monotonic() + START_SECONDS
    files = service.files
    while True:
        try:
            for bucket in (BUCKET, HELD_OUT_BUCKET):
                if not files.exists(bucket):
                    files.mkdir(bucket)
                files.pipe_file(f"{bucket}/ready", b"yes")
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
