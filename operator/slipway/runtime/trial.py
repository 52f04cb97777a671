"""`python -m slipway.runtime.trial ORDER RESULT`: run a plugin on trial models, as pods would; a line of JSON for each.

ORDER is a file with the JSON of a TrialOrder. The working folder is where the runs leave what they leave. A line is
written when a run has ended, so that whoever started this knows where it stood still.
"""

from __future__ import annotations

import inspect
import sys
import sysconfig
import traceback
from pathlib import Path
from typing import Any

from slipway.api.artifacts import ArtifactRef
from slipway.api.errors import ContractError, PluginError, SlipwayError
from slipway.api.reports import shorten
from slipway.api.tasks import CompressTask, DataRef
from slipway.runtime.compress import compress, find_plugin
from slipway.runtime.pod import ARTIFACT, Pod
from slipway.runtime.store import FolderStore
from slipway.runtime.trialresult import result_findings
from slipway.sdk.artifact import Artifact, read_artifact
from slipway.sdk.plugin import Compression
from slipway.sdk.trials import DATA, SEED, Trial, TrialOrder

MAX_REASON = 1024


def main(order: TrialOrder, result: Path) -> None:
    """Runs all that was ordered; only what ends the process keeps it from the next model."""
    plugin = find_plugin(order.plugin)
    for name in order.models:
        trial = tried(plugin, name, order, Path.cwd() / name)
        with result.open("a") as stream:
            stream.write(trial.model_dump_json() + "\n")


def tried(plugin: Compression[Any], name: str, order: TrialOrder, out: Path) -> Trial:
    """One run on one model of the store, and what is to be said of its result. out: the run's own folder."""
    store = Path(order.store)
    pod = pod_in(store, out)
    model = read_artifact(store / name / ARTIFACT)
    data = reference(read_artifact(store / DATA / ARTIFACT), DATA) if order.data else None
    task = CompressTask(
        entry_point=plugin.name,
        version=plugin.version,
        params=order.params,
        model=reference(model, name),
        data=DataRef(name=DATA, artifact=data) if data else None,
        seed=SEED,
    )
    try:
        compress(plugin, task, pod)
        left = read_artifact(out / ARTIFACT)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a plugin may raise anything
        traceback.print_exc()
        refused = isinstance(error, PluginError) and not isinstance(error, ContractError)
        reason = str(error) if refused else f"{_named(error)}{_where(plugin, error)}"
        return Trial(model=name, outcome="refused" if refused else "broken", reason=shorten(reason, MAX_REASON))
    return Trial(
        model=name,
        outcome="left",
        state=left.state,
        digest=left.digest,
        files={path: entry.sha256 for path, entry in left.content.files.items()},
        bytes_before=model.size_bytes,
        bytes_after=left.size_bytes,
        findings=tuple(result_findings(model, left, _places(store, out))),
    )


def pod_in(store: Path, out: Path) -> Pod:
    """What a pod finds whose store is the one folder, and which leaves its result in the other."""
    folder = FolderStore(store, out)
    return Pod(
        store=folder,
        held_out=folder,
        results=folder,
        out=out,
        output=out / "output",
        scratch=out / "scratch",
        repository=out / "repository",
        termination_log=out / "termination-log",
        out_uri=f"store:///{out.name}",
        job_uid="trial",
        index=0,
    )


def reference(artifact: Artifact, name: str) -> ArtifactRef:
    """An artifact that lies in a folder of the store of trials."""
    return ArtifactRef(uri=f"store:///{name}/{ARTIFACT}", digest=artifact.digest, state=artifact.state)


def _named(error: BaseException) -> str:
    """Errors that Slipway raises say enough."""
    return str(error) if isinstance(error, SlipwayError) else f"{type(error).__name__}: {error}"


def _where(plugin: Compression[Any], error: BaseException) -> str:
    """The last line of the plugin's module on the way to the error; nothing where none was."""
    code = inspect.getfile(type(plugin))
    raised = traceback.extract_tb((error.__cause__ or error).__traceback__)
    lines = [frame.lineno for frame in raised if frame.filename == code]
    return f" ({Path(code).name}, line {lines[-1]})" if lines else ""


def _places(store: Path, out: Path) -> list[Path]:
    return [store, out, Path.cwd(), Path(sys.prefix), Path(sysconfig.get_paths()["purelib"])]


if __name__ == "__main__":
    main(TrialOrder.model_validate_json(Path(sys.argv[1]).read_bytes()), Path(sys.argv[2]))
