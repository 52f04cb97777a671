"""Devices are handed to one pod at a time, and a pod that asked for none sees none."""

from __future__ import annotations

from pathlib import Path

from slipway.local.kubelet import NVIDIA, Devices, count_devices, requested_devices
from support.local import a_pod


def test_two_pods_never_have_the_same_device():
    devices = Devices({NVIDIA: 3})
    assert devices.allocate("first", 2)
    assert devices.allocate("second", 1)
    assert (devices.visible("first"), devices.visible("second")) == ("0,1", "2")


def test_a_pod_waits_where_others_have_the_devices_and_gets_what_they_give_back():
    devices = Devices({NVIDIA: 2})
    assert devices.allocate("first", 2)
    assert not devices.allocate("second", 1)
    devices.release("first")
    assert devices.allocate("second", 1)


def test_a_pod_that_asked_for_none_sees_none():
    devices = Devices({NVIDIA: 2})
    assert devices.allocate("pod", requested_devices(a_pod()))
    assert devices.visible("pod") == ""


def test_the_devices_of_this_machine_are_its_device_files(tmp_path: Path):
    for name in ("nvidia0", "nvidia1", "nvidiactl", "null"):
        (tmp_path / name).touch()
    assert count_devices(tmp_path) == {NVIDIA: 2}
