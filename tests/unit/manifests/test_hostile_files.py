"""Whatever a file turns out to be, reading it ends soon, in little memory, with an error that names file and line."""

from __future__ import annotations

import http.server
import io
import os
import pickle
import resource
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from slipway import manifests
from slipway.cli.main import app
from slipway.manifests import BadManifests, read_manifests
from slipway.manifests.documents import documents

SECONDS = 20
"""Alone it takes a tenth of that at most; a busy machine may be slow."""
JOB = """\
apiVersion: slipway.dev/v1alpha1
kind: TrainingJob
metadata: {name: digits}
spec:
  entrypoint: {module: {name: team.train}}
"""


def npy(shape: tuple[int, ...]) -> bytes:
    """A header that promises an array of that shape, and sixteen bytes."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return buffer.getvalue() + bytes(16)


def aliases(levels: int, wide: int = 9) -> str:
    lines = [f"a0: &a0 [{','.join('x' * wide)}]"]
    return "\n".join(lines + [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * wide)}]" for n in range(1, levels)])


def merges(levels: int) -> str:
    lines = ["a0: &a0 {k0: 1}"]
    return "\n".join(lines + [f"a{n}: &a{n} {{<<: [*a{n - 1},*a{n - 1}], k{n}: 1}}" for n in range(1, levels)])


BOMBS: dict[str, tuple[str, str]] = {
    "brackets": ("x: " + "[" * 100_000, "1:103: the YAML is nested deeper than 100 levels"),
    "brackets of JSON": ('{"x":' + "[" * 100_000 + "]" * 100_000 + "}", "1:105: the JSON is nested deeper"),
    "braces": ("{a: " * 100_000, "1:401: the JSON is nested deeper"),
    "blocks": ("\n".join(" " * n + "a:" for n in range(3_000)), "101:101: the YAML is nested deeper"),
    "lists in lists": ("- " * 100_000, ":1:201: the YAML is nested deeper"),
    "complex keys": ("? " * 100_000, ":1:201: the YAML is nested deeper"),
    "aliases": (aliases(10), "more than 200,000 values with aliases expanded"),
    "merges": (merges(22), "more than 200,000 values with aliases expanded"),
    "a long text behind many aliases": (
        f"a: &a {'x' * 1_000_000}\nb: [{','.join(['*a'] * 5_000)}]",
        "more than 20,000,000 characters with aliases expanded",
    ),
    "an alias of itself": ("a: &a [*a]", "the alias refers to a value that contains it"),
    "a number of five million digits": ("a: " + "9" * 5_000_000, "is not a number of JSON"),
    "a number of five million digits in JSON": ('{"a": ' + "9" * 5_000_000 + "}", "is not a number of JSON"),
    "an exponent without end": ("a: " + "1" * 200_000 + "e" + "9" * 200_000, "is not a number of JSON"),
    "infinity in JSON": ('{"a": 1e999}', "is not a number of JSON"),
    "octal digits": (JOB + "  nodes: 0" + "7" * 5_000, "a.yaml:6:"),
    "many values": ("[" + "x," * 1_000_000 + "]", "more than 200,000 values"),
    "many values of JSON": ('{"x": [' + "1," * 1_000_000 + "1]}", "more than 200,000 values"),
    "many documents": ("a: 1\n---\n" * 300_000, "and "),
    "many documents of JSON": ('{"a":1}' * 300_000, "more than"),
    "many empty documents": ("---\n" * 1_000_000, "contains no object; check the file names"),
    "many broken documents": ("a: [\n---\n" * 100_000, "a.yaml:2:1: invalid YAML"),
    "many keys twice": ("{" + ",".join(f'"k{n % 5_000}":1' for n in range(20_000)) + "}", "duplicate field"),
    "many fields that nobody knows": (JOB + "".join(f"  node{n}: 1\n" for n in range(20_000)), "unknown field"),
    "a long word for a field": (JOB + f"  {'n' * 900}: 1\n", "unknown field"),
    "many tags": ("a: [" + "!!python/object:os.system x," * 50_000 + "]", "is not supported"),
    "NUL": ("a: \0", ":1:1: the character U+0000"),
    "NUL in JSON": ('{"a": "\0"}', "a.yaml:1:8: invalid JSON"),
    "a long comment": ("#" * 9_000_000, "contains no object; check the file names"),
    "a long blank": (" " * 9_000_000 + "[", "a.yaml:2:1: invalid YAML"),
    "many anchors": ("a: [" + ",".join(f"&a{n} x" for n in range(100_000)) + "]", "apiVersion: is missing"),
    "many quotes": ('a: "' + "\\\n" * 1_000_000, "invalid YAML"),
    "many colons": (":" * 1_000_000, "1:1000000: invalid YAML"),
    "many dashes": ("-" * 9_000_000, "start with apiVersion"),
    "lists of lists of objects": (
        '{"kind":"List","apiVersion":"v1","items":[' * 49 + "]}" * 49,
        "contains no object; check the file names",
    ),
}


def wrong(path: Path, **options: Any) -> str:
    """All errors as one text."""
    begun = time.monotonic()
    with pytest.raises(BadManifests) as raised:
        read_manifests([str(path)], **options)
    assert time.monotonic() - begun < SECONDS
    assert len(raised.value.lines) <= 101
    return "\n".join(raised.value.lines)


@pytest.mark.parametrize(("text", "said"), BOMBS.values(), ids=BOMBS)
def test_a_text_that_would_burst_is_an_error_with_its_line(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text)
    assert said in wrong(path)


BYTES: dict[str, tuple[bytes, str]] = {
    "UTF-16": ("a: 1\n".encode("utf-16"), ":1:1: is UTF-16, not UTF-8; convert it: iconv -f utf-16"),
    "UTF-32": (b"\x00\x00\xfe\xff" + "a: 1".encode("utf-32-be"), ":1:1: is UTF-32"),
    "a letter of Latin-1": (b"a: 1\nb: \xe9\n", ":2:1: is not text in UTF-8 (byte 8)"),
    "half of a pair": (b"a: \xed\xa0\x80", ":1:1: is not text in UTF-8"),
    "a program": (Path(sys.executable).resolve().read_bytes()[:100_000], "UTF-8"),
}


@pytest.mark.parametrize(("content", "said"), BYTES.values(), ids=BYTES)
def test_what_is_no_text_is_an_error_with_its_line(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(content)
    assert said in wrong(path)


def test_a_byte_order_mark_of_utf_8_is_no_error(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + JOB.encode())
    assert read_manifests([str(path)]).items[0].name == "TrainingJob digits"


def test_twenty_thousand_keys_of_json_take_no_longer_than_they_are_many() -> None:
    begun = time.process_time()
    (document,), faults = documents("{" + ",".join(f'"k{n}":1' for n in range(20_000)) + "}")
    assert (len(document.value), faults) == (20_000, [])
    assert time.process_time() - begun < 5


def test_a_field_of_json_that_stands_twice_is_told_with_both_lines(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": 1,\n "b": 2,\n "a": 3}')
    assert wrong(tmp_path / "a.json").endswith("a.json:3:2: duplicate field 'a', first in line 1; remove one")


# --- Files that are none -----------------------------------------------------------------------------------------


def limited(*words: str, stdin: Any = subprocess.DEVNULL, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The command in a process that may not grow."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))

    command = [sys.executable, "-m", "slipway.cli.main", *words]
    return subprocess.run(
        command, stdin=stdin, capture_output=True, text=True, timeout=60, check=False, cwd=cwd, preexec_fn=limit
    )


def test_a_device_is_refused() -> None:
    for device in ("/dev/zero", "/dev/urandom", "/dev/null"):
        assert wrong(Path(device)) == f"{device}: is not a file; use a regular file"


def test_a_pipe_without_a_writer_is_empty(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.yaml")
    assert wrong(tmp_path / "a.yaml").endswith("contains no object; check the file names")


def test_a_pipe_into_which_nobody_writes_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slipway.manifests.files.SILENCE_SECONDS", 0.1)
    os.mkfifo(tmp_path / "a.yaml")
    writer = os.open(tmp_path / "a.yaml", os.O_RDWR)
    assert "no data for" in wrong(tmp_path / "a.yaml")
    os.close(writer)


def test_what_a_program_writes_into_a_pipe_is_read_as_it_comes(tmp_path: Path) -> None:
    ours, theirs = os.pipe()

    def write() -> None:
        for part in (JOB[:20], JOB[20:]):
            time.sleep(0.05)
            os.write(theirs, part.encode())
        os.close(theirs)

    thread = threading.Thread(target=write)
    thread.start()
    assert read_manifests([f"/dev/fd/{ours}"]).items[0].name == "TrainingJob digits"
    thread.join()
    os.close(ours)


def test_standard_input_without_end_is_not_read_to_its_end() -> None:
    with open("/dev/zero", "rb") as zeros:
        done = limited("plan", "-f", "-", stdin=zeros)
    assert done.returncode == 2
    assert done.stderr == "error: <stdin>: does not end; the limit is 10 MB, use a smaller file\n"


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "a.yaml").open("wb") as file:
        file.truncate(1 << 40)
    assert wrong(tmp_path / "a.yaml").endswith("has 1,099,511.6 MB; the limit is 10 MB, use a smaller file")


def test_links_that_lead_back_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").symlink_to("a.yaml")
    assert "cannot be read: too many levels of symbolic links" in wrong(tmp_path / "a.yaml")
    folder = tmp_path / "f"
    folder.mkdir()
    (folder / "up").symlink_to("..")
    (folder / "same").symlink_to(".")
    (folder / "job.yaml").write_text(JOB)
    assert len(read_manifests([str(folder)], recursive=True).items) == 1


def test_a_folder_of_a_hundred_thousand_files_is_no_list_of_manifests(tmp_path: Path) -> None:
    for number in range(100_000):
        os.close(os.open(tmp_path / f"{number}.yaml", os.O_CREAT | os.O_WRONLY))
    assert "more than 2,000 files" in wrong(tmp_path)


def test_files_that_are_small_each_are_too_much_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifests, "MAX_TOTAL_BYTES", 1_000_000)
    for number in range(20):
        (tmp_path / f"{number}.yaml").write_text("#" * 100_000)
    assert "or 1 MB, the limit of one command" in wrong(tmp_path)


def test_a_name_that_is_no_text_is_shown_by_its_bytes(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/\xff.yaml"
    with open(path, "w") as file:
        file.write("a: 1\n")
    result = CliRunner().invoke(app, ["plan", "-f", os.fsdecode(path)])
    assert (result.exit_code, "\\udcff.yaml:1:1: " in result.stderr) == (2, True)


# --- Kustomizations ----------------------------------------------------------------------------------------------


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file that no kustomization of the folder `k` beside it may read."""
    path = tmp_path / "secret.yaml"
    path.write_text("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: s}\ndata: {a: TOPSECRET}\n")
    return path


@pytest.fixture
def fetched() -> Iterator[tuple[str, list[str]]]:
    """A server of this machine, and what was asked of it."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(JOB.encode())

        def log_message(self, *_: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


OUTSIDE = {
    "resources": "resources: [{file}]",
    "resources by many steps": "resources: [../../../../../../../../../../..{absolute}]",
    "an absolute path": "resources: [{absolute}]",
    "a link": "resources: [link.yaml]",
    "a folder that is a link": "resources: [linked]",
    "components": "components: [{file}]",
    "bases": "bases: [{file}]",
    "crds": "resources: [job.yaml]\ncrds: [{file}]",
    "configurations": "resources: [job.yaml]\nconfigurations: [{file}]",
    "openapi": "resources: [job.yaml]\nopenapi: {{path: {file}}}",
    "patches": "resources: [job.yaml]\npatches: [{{path: {file}}}]",
    "patchesStrategicMerge": "resources: [job.yaml]\npatchesStrategicMerge: [{file}]",
    "patchesJson6902": "resources: [job.yaml]\npatchesJson6902: [{{path: {file}, target: {{kind: TrainingJob}}}}]",
    "replacements": "resources: [job.yaml]\nreplacements: [{{path: {file}}}]",
    "configMapGenerator files": "configMapGenerator: [{{name: a, files: [{file}]}}]",
    "configMapGenerator files by key": "configMapGenerator: [{{name: a, files: [k={file}]}}]",
    "configMapGenerator envs": "configMapGenerator: [{{name: a, envs: [{file}]}}]",
    "configMapGenerator env": "configMapGenerator: [{{name: a, env: {file}}}]",
    "secretGenerator": "secretGenerator: [{{name: a, files: [{file}]}}]",
    "generators": "generators: [{file}]",
    "generators written there": "generators: ['{{kind: X, file: {file}}}']",
    "transformers": "transformers: [{file}]",
    "validators": "validators: [{file}]",
    "helmCharts": "helmCharts: [{{name: a, valuesFile: {file}}}]",
    "helmGlobals": "helmGlobals: {{chartHome: {file}}}",
    "an unknown field": "resourcesToo: [{file}]",
}


@pytest.mark.parametrize("text", OUTSIDE.values(), ids=OUTSIDE)
def test_no_kustomization_reads_what_lies_outside(text: str, tmp_path: Path, secret: Path) -> None:
    folder = tmp_path / "k"
    folder.mkdir()
    (folder / "job.yaml").write_text(JOB)
    (folder / "link.yaml").symlink_to(secret)
    (folder / "linked").symlink_to(tmp_path)
    (folder / "kustomization.yaml").write_text(text.format(file="../secret.yaml", absolute=secret) + "\n")
    said = wrong(folder)
    assert "TOPSECRET" not in said
    assert said.startswith(f"{folder}/kustomization.yaml:")


@pytest.mark.parametrize("text", [text for text in OUTSIDE.values() if "{file}" in text])
def test_no_kustomization_fetches_anything(text: str, tmp_path: Path, fetched: tuple[str, list[str]]) -> None:
    server, asked = fetched
    (tmp_path / "job.yaml").write_text(JOB)
    (tmp_path / "kustomization.yaml").write_text(text.format(file=f"{server}/a.yaml") + "\n")
    assert "kustomization.yaml:" in wrong(tmp_path)
    assert asked == []


@pytest.mark.parametrize(
    "place",
    [
        "https://example.org/a.yaml", "github.com/o/r", "github.com/o/r//p?ref=v1", "git@github.com:o/r", "gh:o/r",
        "git::https://example.org/r", "ssh://git@example.org/r", "file:///etc", "user@example.org:r",
    ],
)  # fmt: skip
def test_an_address_is_never_taken_for_a_folder(place: str, tmp_path: Path) -> None:
    (tmp_path / "kustomization.yaml").write_text(f"resources: ['{place}']\n")
    if "://" not in place and "?" not in place:
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "kustomization.yaml").write_text("resources: []\n")
    assert "is remote, and nothing is fetched" in wrong(tmp_path)


def test_a_base_in_another_folder_that_reads_outside_is_refused_where_it_says_so(tmp_path: Path, secret: Path) -> None:
    for name, text in (("over", "resources: [../base]"), ("base", "resources: [../secret.yaml]")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "kustomization.yaml").write_text(text)
    assert wrong(tmp_path / "over").startswith(f"{tmp_path}/over/../base/kustomization.yaml:1:13: resources: ")
    assert secret.exists()


def test_pipes_devices_and_huge_files_of_a_kustomization_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    with (tmp_path / "huge.bin").open("wb") as file:
        file.truncate(1 << 40)
    (tmp_path / "kustomization.yaml").write_text("configMapGenerator: [{name: a, files: [huge.bin]}]\n")
    assert "huge.bin: has 1,099,511.6 MB" in wrong(tmp_path)
    (tmp_path / "kustomization.yaml").write_text("resources: [pipe.yaml]\n")
    assert "pipe.yaml: is not a file" in wrong(tmp_path)


def test_kustomizations_that_double_each_other_are_not_followed_to_their_end(tmp_path: Path) -> None:
    for number in range(30):
        folder = tmp_path / f"k{number}"
        folder.mkdir()
        below = f"resources: [../k{number + 1}, ../k{number + 1}/]\n" if number < 29 else "resources: []\n"
        (folder / "kustomization.yaml").write_text(below)
    assert "more than 200 kustomizations" in wrong(tmp_path / "k0")


def test_without_kubectl_a_kustomization_is_refused_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slipway.manifests.kustomization._kubectl", lambda: None)
    (tmp_path / "kustomization.yaml").write_text("resources: []\n")
    assert "kustomizations need kubectl; install it" in wrong(tmp_path)


def test_kubectl_that_does_not_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "kubectl"
    program.write_text("#!/bin/sh\nwhile :; do :; done\n")
    program.chmod(0o755)
    monkeypatch.setattr("slipway.manifests.kustomization._kubectl", lambda: str(program))
    monkeypatch.setattr("slipway.manifests.kustomization.SECONDS", 1)
    (tmp_path / "k").mkdir()
    (tmp_path / "k" / "kustomization.yaml").write_text("resources: []\n")
    assert "kubectl kustomize" in wrong(tmp_path / "k")


def test_what_a_kustomization_makes_is_bounded(tmp_path: Path) -> None:
    (tmp_path / "big").write_text("x" * 9_000_000)
    text = "configMapGenerator: [{name: a, files: [big]}, {name: b, files: [big]}]\n"
    (tmp_path / "kustomization.yaml").write_text(text)
    assert "kubectl kustomize" in wrong(tmp_path)


# --- Other files -------------------------------------------------------------------------------------------------


def said_of(*words: str) -> str:
    """The one line of the error."""
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code in (1, 2)
    (line,) = result.stderr.splitlines()
    return line


def test_a_pickle_among_samples_is_not_loaded(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.mkdir, (str(tmp_path / "owned"),))

    objects = np.array([Evil()], dtype=object)
    np.save(tmp_path / "a.npy", objects, allow_pickle=True)
    np.savez(tmp_path / "a.npz", inputs=objects)
    (tmp_path / "b.npy").write_bytes(pickle.dumps(Evil()))
    for name in ("a.npy", "a.npz", "b.npy"):
        assert "predict" not in said_of("predict", "--url", "127.0.0.1:1", "--input", str(tmp_path / name))
    assert not (tmp_path / "owned").exists()


SAMPLES: dict[str, tuple[bytes, str]] = {
    "claims.npy": (npy((1 << 40,)), "mmap length is greater than file size"),
    "header.npy": (b"\x93NUMPY\x02\x00" + (1 << 30).to_bytes(4, "little"), "EOF"),
    "cut.npz": (b"PK\x03\x04", "not a zip file"),
    "text.npz": (b"hello", "not a zip file"),
    "empty.npy": (b"", "empty"),
    "deep.json": (b"[" * 100_000 + b"]" * 100_000, "nested too deep"),
    "ragged.json": (b"[[1], [1, 2]]", "inhomogeneous"),
    "words.json": (b'{"inputs": ["a"]}', "could not convert"),
    "huge.json": (b'{"inputs": [1], "targets": [' + b"9" * 400 + b"]}", "too large"),
    "other.json": (b'{"x": 1}', "it holds no 'inputs'"),
    "number.json": (b"5 5", "Extra data"),
    "latin.json": (b"[\xff]", "is not text in UTF-8"),
}


@pytest.mark.parametrize(("name", "content", "said"), [(name, *case) for name, case in SAMPLES.items()], ids=SAMPLES)
def test_samples_that_are_none_are_one_clear_error(name: str, content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    line = said_of("predict", "--url", "127.0.0.1:1", "--input", str(path))
    assert line.startswith(f"error: {path}: ")
    assert said in line


def test_samples_that_are_no_file_or_larger_than_they_may_be_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "zero.npy").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pipe.npz")
    with (tmp_path / "huge.npy").open("wb") as file:
        file.truncate(1 << 40)
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(6):
            with archive.open(f"a{number}.npy", "w", force_zip64=True) as member:
                for _ in range(16):
                    member.write(bytes(1 << 26))
    for name, said in {"zero.npy": "not a file", "pipe.npz": "not a file", "huge.npy": "MB", "bomb.npz": "MB"}.items():
        assert said in said_of("predict", "--url", "127.0.0.1:1", "--input", str(tmp_path / name))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (merges(22), "more than 200,000 values"),
        ("a: " + "[" * 100_000, "1:103: the YAML is nested deeper"),
        ("contexts: 5\n", "is invalid: "),
        ("- a\n", "is invalid: "),
        ("a: [\n", ":2:1: invalid YAML"),
    ],
)
def test_a_hostile_kubeconfig_is_one_clear_error(
    text: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    monkeypatch.setenv("KUBECONFIG", str(path))
    assert said in said_of("status")


def test_a_parameter_that_is_nested_too_deep_is_one_clear_error() -> None:
    result = CliRunner().invoke(app, ["plugin", "check", "quantize-int8", "--param", "a=" + "[" * 50_000])
    assert result.exit_code == 2
    assert "the YAML is nested deeper than 100 levels" in result.stderr
    assert "Traceback" not in result.output
