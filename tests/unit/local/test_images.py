"""The wheel's tritonserver, as it is started for one pod, and what a killed one leaves."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from slipway.local import images
from slipway.local.images import Triton, TritonMissing, assemble_backends, make_images, remove_shared_memory

TRITON = Triton(Path("/wheel/tritonserver"), Path("/state/backends"), (Path("/wheel/libs"), Path("/python/lib")))


def test_it_listens_on_the_pods_address_alone():
    command = TRITON.command(["--http-port=8000"], "127.64.0.100")
    assert command[0] == "/wheel/tritonserver"
    assert {word for word in command if "address" in word} == {
        f"--{protocol}-address=127.64.0.100" for protocol in ("http", "grpc", "metrics")
    }


def test_the_backends_stub_finds_this_python_and_its_libraries():
    environment = TRITON.environment("/usr/bin")
    assert environment["PATH"] == f"{Path(sys.executable).parent}:/usr/bin"
    assert environment["LD_LIBRARY_PATH"] == "/wheel/libs:/python/lib"


def test_only_shared_memory_of_the_runs_own_block_is_removed(tmp_path: Path):
    for name in ("slipway-127.64.0.100-a", "slipway-127.64.1.100-b", "triton-c"):
        (tmp_path / name).touch()
    remove_shared_memory("127.64.0", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["slipway-127.64.1.100-b", "triton-c"]


def test_a_python_without_a_stub_is_named(tmp_path: Path):
    with pytest.raises(TritonMissing, match=r"does not support Python 3\.\d+; use 3\.11 or 3\.12"):
        assemble_backends(tmp_path, tmp_path / "backends")


def test_a_missing_libpython_is_named_with_the_package_that_has_it(monkeypatch: pytest.MonkeyPatch):
    def nowhere(_name: str) -> None:
        raise OSError

    monkeypatch.setattr(images.sysconfig, "get_config_var", lambda _name: None)
    monkeypatch.setattr(images.sys, "base_prefix", "/nowhere")
    monkeypatch.setattr(images.ctypes, "CDLL", nowhere)
    with pytest.raises(TritonMissing, match=r"apt-get install libpython3\.\d+"):
        images._find_libpython()


def test_the_front_end_starts_the_wheels_server_at_the_pods_address():
    images = make_images(TRITON)
    command = ["python3", "/repository/frontend.py", "tritonserver", "--http-port=8000"]
    made = images.command(images.serving, command, "127.64.0.100")
    assert made[:2] == [sys.executable, "/repository/frontend.py"]
    assert made[2:] == TRITON.command(["--http-port=8000"], "127.64.0.100")
