"""Nothing of a local run listens to others than this machine, in all its life."""

from __future__ import annotations

from pathlib import Path

from support.local_runs import WAIT_SECONDS, processes_of, started, written
from support.manifests import script_training

MEETS = """
import time
import torch, torch.distributed as dist

dist.init_process_group("gloo")
one = torch.ones(1)
dist.all_reduce(one)
assert one.item() == dist.get_world_size() == 4, one
time.sleep(1)
dist.barrier()
print("all ranks met", flush=True)
raise SystemExit(3)
"""


def test_two_nodes_of_two_processes_meet_by_stores_and_sockets_of_this_machine_alone(tmp_path: Path):
    files = [written(tmp_path, *script_training("meets", MEETS, nodes=2, processesPerNode=2))]
    with started(tmp_path / "state", files, "--once") as run:
        run.process.wait(WAIT_SECONDS)
        assert "all ranks met" in "".join(path.read_text() for path in (tmp_path / "state" / "logs").rglob("*.log"))
    assert {address.rpartition(".")[0] for address, _, _ in run.listening.seen} >= {"127.0.0"}
    assert any(address.startswith("127.64.") for address, _, _ in run.listening.seen), "no store was seen"
    assert processes_of(tmp_path / "state") == {}
