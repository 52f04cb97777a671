"""A bucket when something goes wrong: nothing half-written is ever read, and the user is told which field to fix."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from slipway.api.artifacts import State
from slipway.api.errors import ArtifactError, StoreAway, StoreError
from slipway.api.reports import Report, parse_report
from slipway.api.tasks import CheckTask
from slipway.runtime import storetasks
from slipway.sdk.manifest import Content
from support.seaweed import ADMIN, READER, Seaweed
from support.seaweed import seaweed as seaweed_service
from support.stores import RemoteStore, environment_in, pod_in
from support.tcp_proxy import Cable, cable_to

CONTENT = Content(state=State.MODULE)
SIZE = 40 * 1024 * 1024
"""Several parts of a multipart upload, in several connections."""
MANY = SIZE // 2
NUMBERS = itertools.count()
WRITER = """
import json, os, sys
from pathlib import Path
from slipway.api.artifacts import State
from slipway.runtime.pod import Pod
from slipway.sdk.manifest import Content
print("begins", flush=True)
store = Pod.from_environment(os.environ).store
store.write("artifact", Content(state=State.MODULE), {"weights.bin": Path(sys.argv[1])})
print("wrote", flush=True)
"""


@pytest.fixture
def prefix() -> str:
    return f"faults/{next(NUMBERS)}"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "weights.bin"
    path.write_bytes(os.urandom(SIZE))
    return path


@pytest.fixture
def cable(seaweed: Seaweed) -> Iterator[Cable]:
    with cable_to(seaweed.endpoint) as cable:
        yield cable


def write(store: RemoteStore, weights: Path) -> str:
    return pod_in(store, "steps/a").store.write("artifact", CONTENT, {"weights.bin": weights}).digest


def nothing_is_there(store: RemoteStore) -> bool:
    return pod_in(store, "steps/a").store.find("artifact") is None


def test_a_large_file_goes_up_in_parts_and_comes_back_whole(
    seaweed: Seaweed, tmp_path: Path, prefix: str, weights: Path
):
    """Its ETag is no digest of its bytes, so only our own tells that it is whole."""
    store = seaweed.store(tmp_path, prefix=prefix)
    digest = write(store, weights)
    found = pod_in(store, "steps/b").store.read("steps/a/artifact", digest)
    assert found.file("weights.bin").read_bytes() == weights.read_bytes()
    (key,) = [key for key in seaweed.files.find(f"artifacts/{prefix}") if key.endswith("weights.bin")]
    assert "-" in seaweed.files.info(key)["ETag"]


@pytest.mark.parametrize("sent", [1000, MANY], ids=["at the beginning", "in the middle"])
def test_a_writer_that_is_killed_leaves_nothing_that_is_read(
    seaweed: Seaweed, cable: Cable, tmp_path: Path, prefix: str, weights: Path, sent: int
):
    through = seaweed.store(tmp_path, prefix=prefix, endpoint=cable.url)
    cable.hangs_after(sent)
    environment = {**os.environ, **environment_in(through, "steps/a"), "PYTHONPATH": os.pathsep.join(sys.path)}
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(weights)], env=environment, stdout=subprocess.PIPE)
    try:
        until(lambda: cable.held_bytes > 0)
        writer.send_signal(signal.SIGKILL)
        out, _ = writer.communicate(timeout=30)
    finally:
        writer.kill()
    assert out == b"begins\n"
    cable.restore()
    direct = seaweed.store(tmp_path, prefix=prefix)
    assert nothing_is_there(direct)
    digest = write(direct, weights)
    assert pod_in(direct, "steps/b").store.read("steps/a/artifact", digest).digest == digest


@pytest.mark.parametrize("sent", [0, MANY], ids=["at once", "in the middle"])
def test_an_upload_that_is_cut_fails_by_name_and_leaves_nothing_that_is_read(
    seaweed: Seaweed, cable: Cable, tmp_path: Path, prefix: str, weights: Path, sent: int
):
    through = seaweed.store(tmp_path, prefix=prefix, endpoint=cable.url)
    cable.breaks_after(sent)
    with pytest.raises(StoreAway, match=f"spec.s3.endpoint of the ArtifactStore: {cable.url} does not answer"):
        write(through, weights)
    assert nothing_is_there(seaweed.store(tmp_path, prefix=prefix))
    cable.restore()
    assert write(through, weights)


# --- What is wrong with the store is told by its field ------------------------------------------------------------

WRONG_KEY = {"AWS_ACCESS_KEY_ID": "admin", "AWS_SECRET_ACCESS_KEY": "wrong"}
UNKNOWN_KEY = {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "wrong"}


@pytest.mark.parametrize(
    ("change", "keys", "kind", "said"),
    [
        ({}, WRONG_KEY, StoreError, r"spec\.s3\.secretRef .*the key in Secret store is not accepted"),
        ({}, UNKNOWN_KEY, StoreError, r"spec\.s3\.secretRef .*the key in Secret store is not accepted"),
        ({}, READER, StoreError, r"spec\.s3\.secretRef .*may not write in bucket artifacts.*allow s3:PutObject"),
        ({"bucket": "absent"}, None, StoreError, r"spec\.s3\.bucket .*there is no bucket absent at http.*create it"),
        ({"endpoint": "http://127.0.0.1:9"}, None, StoreAway, r"spec\.s3\.endpoint .*http://127\.0\.0\.1:9 does not"),
        ({"endpoint": "http://nowhere.invalid"}, None, StoreAway, r"spec\.s3\.endpoint .*nowhere\.invalid does not"),
    ],
    ids=["wrong secret", "unknown key", "read-only", "no bucket", "nobody listens", "no such host"],
)
def test_what_is_wrong_is_named_with_its_cure(
    seaweed: Seaweed, tmp_path: Path, change: dict[str, Any], keys: dict[str, str] | None, kind: type, said: str
):
    store = seaweed.store(tmp_path, **change) if keys is None else seaweed.store(tmp_path, keys, **change)
    with pytest.raises(StoreError, match=said) as found:
        storetasks.check_bucket(CheckTask(), pod_in(store, "check"))
    assert type(found.value) is kind


def test_a_certificate_of_ones_own_authority_is_trusted_where_the_secret_has_it(tmp_path: Path):
    with seaweed_service(tmp_path, tls=True) as service:
        assert service.ca is not None
        untrusted = pod_in(service.store(tmp_path), "check")
        with pytest.raises(StoreError, match=r"spec\.s3\.endpoint .*certificate .* is not trusted.*AWS_CA_BUNDLE"):
            storetasks.check_bucket(CheckTask(), untrusted)
        trusted = {**ADMIN, "AWS_CA_BUNDLE": service.ca.read_text()}
        assert (
            storetasks.check_bucket(CheckTask(), pod_in(service.store(tmp_path, trusted), "check")).outcome
            == "succeeded"
        )


def test_a_service_that_speaks_no_tls_is_named(seaweed: Seaweed, tmp_path: Path):
    store = seaweed.store(tmp_path, endpoint=seaweed.endpoint.replace("http:", "https:"))
    with pytest.raises(StoreError, match=r"spec\.s3\.endpoint .*does not complete the TLS handshake.*; use http://"):
        storetasks.check_bucket(CheckTask(), pod_in(store, "check"))


def test_a_good_store_passes_its_check_again_and_again(seaweed: Seaweed, tmp_path: Path, prefix: str):
    store = seaweed.store(tmp_path, prefix=prefix)
    for _ in range(2):
        assert storetasks.check_bucket(CheckTask(), pod_in(store, "check")).outcome == "succeeded"
    assert [key.split(f"{prefix}/")[1] for key in seaweed.files.find(f"artifacts/{prefix}")] == ["check/written"]


def test_a_missing_artifact_is_no_trouble_with_the_store(seaweed: Seaweed, tmp_path: Path):
    with pytest.raises(ArtifactError, match="no artifact at s3://artifacts/none"):
        pod_in(seaweed.store(tmp_path), "steps/a").store.read("none", "sha256:" + "0" * 64)


def test_the_pod_reports_the_error_and_exits_with_1(seaweed: Seaweed, tmp_path: Path):
    code, report = task_of({"task": "check"}, seaweed.store(tmp_path, bucket="absent"), tmp_path / "termination-log")
    assert code == 1
    assert report.error is not None
    assert report.error.exception == "StoreError"
    assert report.error.message.startswith("spec.s3.bucket of the ArtifactStore: there is no bucket absent at")
    assert not seaweed.files.exists("absent")  # the service would make one for whoever writes to it


def task_of(task: dict[str, Any], store: RemoteStore, message: Path) -> tuple[int, Report]:
    environment = {
        **os.environ,
        **environment_in(store, "check"),
        "PYTHONPATH": os.pathsep.join(sys.path),
        "SLIPWAY_TASK": json.dumps(task),
        "SLIPWAY_TERMINATION_LOG": str(message),
    }
    done = subprocess.run([sys.executable, "-m", "slipway.runtime"], env=environment, timeout=120, check=False)
    report = parse_report(message.read_bytes())
    assert report is not None
    return done.returncode, report


def until(holds: Any, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.05)
