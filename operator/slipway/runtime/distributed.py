"""Ranks and devices, by torchrun's variables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist

# A peer that froze without closing its connection is noticed after this long (the default is 30 minutes).
COLLECTIVE_TIMEOUT = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among all: rank 0 of 1 outside torchrun."""

    rank: int = 0
    world_size: int = 1

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Ranks:
        """By RANK and WORLD_SIZE."""
        return cls(int(environment.get("RANK", "0")), int(environment.get("WORLD_SIZE", "1")))


def local_device(environment: Mapping[str, str]) -> torch.device:
    """The GPU of LOCAL_RANK where there is one for each local rank, else the CPU."""
    local_rank = int(environment.get("LOCAL_RANK", "0"))
    local_size = int(environment.get("LOCAL_WORLD_SIZE", "1"))
    if torch.cuda.is_available() and torch.cuda.device_count() >= local_size:
        return torch.device("cuda", local_rank)
    return torch.device("cpu")


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """NCCL on GPUs, gloo elsewhere; torn down when the work ended well, left to the process' end when not."""
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=COLLECTIVE_TIMEOUT)
    yield
    dist.barrier()
    dist.destroy_process_group()
