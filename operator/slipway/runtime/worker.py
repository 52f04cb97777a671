"""The process that torchrun starts on every rank: it runs the entry point of the task and records its exception.

A user's script needs no `@record` of torch. It runs as `__main__`, with its own arguments and its folder on sys.path,
as `python script.py` runs it.
"""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Mapping
from pathlib import Path

from slipway.api.entrypoint import Entrypoint
from slipway.api.errors import SpecError
from slipway.api.tasks import TrainTask
from slipway.runtime.failures import record
from slipway.runtime.pod import read_task


def main(environment: Mapping[str, str]) -> None:
    """Run the entry point of SLIPWAY_TASK on this rank."""
    try:
        task = read_task(environment)
        if not isinstance(task, TrainTask):
            raise TypeError(f"a worker runs a train task, not {task.task}")  # noqa: TRY301 - recorded like any other
        run_entrypoint(task.entrypoint)
    except BaseException as error:
        if not (isinstance(error, SystemExit) and not error.code) and (path := environment.get(ERROR_FILE)):
            record(error, Path(path))
        raise


ERROR_FILE = "TORCHELASTIC_ERROR_FILE"


def run_entrypoint(entrypoint: Entrypoint) -> None:
    """Run the entry point, and raise what it raises; SpecError for a script that is not in the image."""
    if (script := entrypoint.script) is not None:
        if not Path(script.path).is_file():
            raise SpecError(
                "spec.entrypoint.script.path",
                f"{script.path} is not in the image",
                "add it to the image, or mount it by podTemplate",
            )
        sys.argv = [script.path, *script.args]
        sys.path[0] = str(Path(script.path).parent)
        runpy.run_path(script.path, run_name="__main__")
    elif (module := entrypoint.module) is not None:
        sys.argv = [module.name, *module.args]
        runpy.run_module(module.name, run_name="__main__", alter_sys=True)
    elif (recipe := entrypoint.recipe) is not None:
        from slipway.runtime.recipe import train

        train(recipe)


if __name__ == "__main__":
    main(os.environ)
