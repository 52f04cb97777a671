"""What stands for the images: this Python environment for the runtime's, the wheel's tritonserver for the other."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version

from slipway.local.triton import Triton
from slipway.local.volumes import CannotStart
from slipway.plan.plan import Settings

_PYTHONS = ("python", "python3")
_SERVER = "tritonserver"


@dataclass(frozen=True, slots=True)
class Images:
    """The two images of local mode. triton: None where nothing is served."""

    runtime: str
    serving: str
    triton: Triton | None = None

    @property
    def settings(self) -> Settings:
        return Settings(self.runtime, self.serving, isolated=False)

    def command(self, image: str, command: Sequence[str], address: str) -> list[str]:
        """What is executed for a command of a container of that image. Raises CannotStart for other images."""
        if image not in (self.runtime, self.serving):
            raise CannotStart(f"image {image}: without a cluster only Slipway's own images are there")
        program, *arguments = command
        if _SERVER in arguments and self.triton is not None:
            at = command.index(_SERVER)
            return [*self.command(image, command[:at], address), *self.triton.command(command[at + 1 :], address)]
        return [sys.executable if program in _PYTHONS else program, *arguments]

    def environment(self, image: str, path: str) -> dict[str, str]:
        """What the image adds to the variables. path: PATH so far."""
        return self.triton.environment(path) if image == self.serving and self.triton is not None else {}


def local_images(triton: Triton | None = None) -> Images:
    """Named by this version: another one's steps are not taken for its own."""
    tag = version("slipway-operator")
    return Images(f"slipway.local/runtime:{tag}", f"slipway.local/serving:{tag}", triton)
