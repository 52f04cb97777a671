"""The contract of both sides of the port to the store: a folder, and a bucket of a real S3 service."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from slipway.api.artifacts import State
from slipway.api.errors import ArtifactError, InputMissing
from slipway.api.reports import MAX_REPORT_BYTES
from slipway.runtime.store import Store
from slipway.sdk.artifact import Artifact
from slipway.sdk.manifest import MANIFEST, Content, Provenance
from support.seaweed import Seaweed
from support.stores import AnyStore, RemoteStore, pod_in

FILES: dict[str, Path | bytes] = {
    "model.safetensors": b"weights",
    "code/nets.py": b"class Net: ...\n",
    "code/no.py": b"",
}
OTHERS: dict[str, Path | bytes] = {**FILES, "model.safetensors": b"others"}
CONTENT = Content(state=State.MODULE)
NUMBERS = itertools.count()


@dataclass(frozen=True)
class Side:
    """One side, and a way past it: to where its files lie."""

    kept: AnyStore
    service: Seaweed

    def pod(self, folder: str = "steps/a") -> Store:
        """The store as a new pod sees it whose own folder is that one."""
        return pod_in(self.kept, folder).store

    def overwrite(self, path: str, name: str, data: bytes) -> None:
        if isinstance(self.kept, Path):
            target = self.kept / path / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        else:
            self.service.files.pipe_file(self._key(path, name), data)

    def remove(self, path: str, name: str) -> None:
        if isinstance(self.kept, Path):
            (self.kept / path / name).unlink()
        else:
            self.service.files.rm_file(self._key(path, name))

    def _key(self, path: str, name: str) -> str:
        assert isinstance(self.kept, RemoteStore)
        beside = f"{self.kept.s3['bucket']}/{self.kept.s3['prefix']}/{path}"
        lying = [key for key in self.service.files.find(beside) if key.endswith(f"/{name}")]
        return lying[0] if lying else f"{beside}/{name}"


@pytest.fixture(params=["folder", "bucket"])
def side(request: pytest.FixtureRequest, seaweed: Seaweed, tmp_path: Path) -> Side:
    if request.param == "folder":
        return Side(tmp_path / "store", seaweed)
    return Side(seaweed.store(tmp_path, prefix=f"contract/{next(NUMBERS)}"), seaweed)


def write(store: Store, files: dict[str, Path | bytes] = FILES, **metrics: float) -> Artifact:
    return store.write("artifact", CONTENT, files, Provenance(metrics=metrics))


def test_what_one_pod_wrote_another_reads(side: Side):
    written = write(side.pod(), accuracy=0.5)
    found = side.pod("steps/b").read("steps/a/artifact", written.digest)
    assert (found.digest, found.manifest) == (written.digest, written.manifest)
    assert {name: found.file(name).read_bytes() for name in FILES} == FILES


def test_the_digest_is_the_same_on_both_sides(side: Side, tmp_path: Path):
    assert write(side.pod()).digest == write(pod_in(tmp_path / "elsewhere", "steps/z").store).digest


def test_a_file_is_taken_by_its_path(side: Side, tmp_path: Path):
    (tmp_path / "weights").write_bytes(b"weights")
    assert write(side.pod(), {**FILES, "model.safetensors": tmp_path / "weights"}).digest == write(side.pod("b")).digest


def test_where_nothing_lies_nothing_is_found(side: Side):
    assert side.pod().find("artifact") is None
    with pytest.raises(InputMissing, match="there is no artifact at"):
        side.pod().read("steps/a/artifact", "sha256:" + "0" * 64)


def test_files_without_a_manifest_are_no_artifact(side: Side):
    written = write(side.pod())
    side.remove("steps/a/artifact", MANIFEST)
    with pytest.raises(InputMissing, match="there is no artifact at"):
        side.pod().read("steps/a/artifact", written.digest)


@pytest.mark.parametrize(
    ("name", "data", "complaint"),
    [
        ("model.safetensors", b"WEIGHTS", r"model\.safetensors differs from its sha256"),
        ("model.safetensors", b"weigh", r"model\.safetensors has 5 bytes instead of 7"),
        (MANIFEST, b'{"content": {', "is not a manifest"),
        (MANIFEST, b"", "is not a manifest"),
        ("model.safetensors", None, r"model\.safetensors is missing"),
    ],
    ids=["other bytes", "cut", "cut manifest", "empty manifest", "missing"],
)
def test_what_is_broken_is_never_read_and_the_next_writer_replaces_it(
    side: Side, name: str, data: bytes | None, complaint: str
):
    written = write(side.pod())
    if data is None:
        side.remove("steps/a/artifact", name)
    else:
        side.overwrite("steps/a/artifact", name, data)
    with pytest.raises(ArtifactError, match=complaint):
        side.pod().read("steps/a/artifact", written.digest)
    with pytest.raises(ArtifactError, match=complaint):
        side.pod().find("artifact")
    again = write(side.pod())
    assert side.pod().read("steps/a/artifact", again.digest).digest == written.digest


def test_a_broken_artifact_is_replaced_by_another(side: Side):
    write(side.pod())
    side.overwrite("steps/a/artifact", "model.safetensors", b"WEIGHTS")
    other = write(side.pod(), OTHERS)
    found = side.pod().find("artifact")
    assert found is not None
    assert found.digest == other.digest


def test_another_digest_than_the_one_asked_for_is_refused(side: Side):
    write(side.pod())
    with pytest.raises(ArtifactError, match="another artifact was written there"):
        side.pod().read("steps/a/artifact", "sha256:" + "0" * 64)


def test_a_whole_artifact_is_not_written_over(side: Side):
    first = write(side.pod())
    with pytest.raises(ArtifactError, match=f"already has {first.digest}"):
        write(side.pod(), OTHERS)
    assert side.pod().read("steps/a/artifact", first.digest).digest == first.digest


def test_the_same_artifact_may_be_written_twice_and_the_first_ones_figures_stay(side: Side):
    first = write(side.pod(), seconds=1)
    assert write(side.pod(), seconds=2).digest == first.digest
    found = side.pod().find("artifact")
    assert found is not None
    assert found.manifest.provenance.metrics == {"seconds": 1}


def test_racing_writers_of_the_same_artifact_all_succeed(side: Side):
    pods = [side.pod() for _ in range(8)]
    with ThreadPoolExecutor(len(pods)) as threads:
        (digest,) = {made.digest for made in threads.map(write, pods)}
    assert side.pod().read("steps/a/artifact", digest).digest == digest


def test_of_racing_writers_of_different_artifacts_one_wins_and_what_it_wrote_is_whole(side: Side):
    def attempt(number: int) -> str | None:
        try:
            return write(pods[number], {"model.safetensors": b"weights %d" % number}).digest
        except ArtifactError:
            return None

    pods = [side.pod() for _ in range(8)]
    with ThreadPoolExecutor(len(pods)) as threads:
        (winner,) = filter(None, threads.map(attempt, range(len(pods))))
    assert side.pod().read("steps/a/artifact", winner).digest == winner


def test_reports_are_found_by_their_job(side: Side):
    side.pod().write_report("job-0", b"first")
    side.pod().write_report("job-0", b"second")
    side.pod().write_report("job-11", b"another pod")
    side.pod().write_report("job2-0", b"another Job")
    side.pod().write_report("job-2", b"x" * (MAX_REPORT_BYTES + 1))
    assert side.pod("steps/b").reports("steps/a", "job") == {"job-0": b"second", "job-11": b"another pod"}


def test_of_a_folder_that_never_was_there_are_no_reports(side: Side):
    assert side.pod().reports("steps/none", "job") == {}
