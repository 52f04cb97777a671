"""The release of the session, changed by helm as a user changes it, and the chart as it was before this checkout's."""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from demo import chart
from demo.kubectl import Kubectl
from support.apiserver import ROOT
from support.chart import CHART
from support.operator_process import samples

SECONDS = 180
SELECTOR = "app.kubernetes.io/name=slipway"
RECONCILED = ("trainingjob", "modeldeployment", "artifactstore")


@dataclass(frozen=True, slots=True)
class Release:
    """Each change returns when the operator that it leaves leads and has had its turn at every object."""

    images: chart.Images

    @property
    def system(self) -> Kubectl:
        return Kubectl(chart.NAMESPACE)

    def upgrade(self, folder: Path, *values: str) -> None:
        """Installed where there is none. values: as in `--set`."""
        images = (f"image.{name}={getattr(self.images, name)}" for name in ("operator", "runtime", "serving"))
        self._helm("upgrade", str(folder), "--install", "--wait", *(f"--set={value}" for value in (*images, *values)))
        self._wait_until_it_has_looked_at_everything()

    def rollback(self) -> None:
        self._helm("rollback", "--wait")
        self._wait_until_it_has_looked_at_everything()

    def uninstall(self) -> None:
        """Returns when no operator runs."""
        self._helm("uninstall", "--wait")
        self.system("wait", "--for=delete", "pod", f"--selector={SELECTOR}", "--timeout=60s", timeout_seconds=90)

    def left(self) -> set[str]:
        """Objects of the release's namespace that the namespace did not have by itself."""
        kinds = "pod,service,deployment,configmap,secret,serviceaccount,role,rolebinding,poddisruptionbudget"
        given = {"configmap/kube-root-ca.crt", "serviceaccount/default"}
        return set(self.system("get", kinds, "--output=name").split()) - given

    def test(self) -> str:
        """What the hook's pod has said."""
        return self._helm("test", "--logs")

    def _helm(self, verb: str, *arguments: str) -> str:
        where = (f"--namespace={chart.NAMESPACE}", f"--timeout={SECONDS}s")
        command = [chart.helm_program(), verb, "slipway", *arguments, *where]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=2 * SECONDS)
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout

    def _wait_until_it_has_looked_at_everything(self) -> None:
        deadline = time.monotonic() + SECONDS
        while not self._has_looked_at_everything():
            assert time.monotonic() < deadline, self.system("logs", f"--selector={SELECTOR}", "--tail=50")
            time.sleep(0.2)  # between two questions; the wait is for the operator

    def _has_looked_at_everything(self) -> bool:
        pods = self.system.list("pod", SELECTOR)
        if len(pods) != 1 or not pods[0]["status"].get("podIP"):
            return False  # the former one still ends
        try:
            now = samples(pods[0]["status"]["podIP"], 9090)
        except OSError:
            return False
        leads = any(value for name, value in now.items() if name.startswith("leader_election_master_status"))
        waiting = sum(value for name, value in now.items() if name.startswith("workqueue_depth"))
        return leads and not waiting and all(_turns(now, kind) >= self._count(kind) for kind in RECONCILED)

    def _count(self, kind: str) -> int:
        return len(self.system("get", kind, "--all-namespaces", "--output=name").split())


def _turns(now: dict[str, float], controller: str) -> float:
    counter = "controller_runtime_reconcile_total{"
    return sum(
        value for name, value in now.items() if name.startswith(counter) and f'controller="{controller}"' in name
    )


def former_chart(folder: Path) -> Path:
    """The chart before its last change, unpacked into this folder.

    This checkout's own where git does not have the former one (a clone of one commit, an archive of the sources): the
    upgrade is then one of values alone, which still replaces the operator.
    """
    try:
        changed = _git("status", "--porcelain", "--", str(CHART))
        commit = b"HEAD" if changed else _git("rev-list", "-1", "HEAD", "--", str(CHART)).strip() + b"^"
        packed = _git("archive", commit.decode(), str(CHART.relative_to(ROOT)))
    except (subprocess.CalledProcessError, FileNotFoundError) as error:
        print(f"the former chart is not in this clone, so the upgrade is from this checkout's own: {error}")
        return CHART
    print(f"the former chart is that of {commit.decode()}")
    subprocess.run(["tar", "--extract", f"--directory={folder}"], input=packed, check=True, timeout=60)
    return folder / CHART.relative_to(ROOT)


def _git(*arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=True, timeout=60).stdout


def standing(kubectl: Kubectl) -> dict[str, object]:
    """All of a namespace that an operator could have made again: UIDs, restarts of containers, generations of specs."""
    kinds = ("pod", "job", "service", "controllerrevision", "deployment", "trainingjob", "modeldeployment")
    return {
        f"{kind} {obj['metadata']['name']}": (
            obj["metadata"]["uid"],
            obj["metadata"].get("generation"),
            [one["restartCount"] for one in obj.get("status", {}).get("containerStatuses", ())],
        )
        for kind in kinds
        for obj in kubectl.list(kind)
    }
