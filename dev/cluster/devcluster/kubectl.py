"""Calls kubectl; a refusal ends the command with kubectl's own words."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devcluster import binaries


@dataclass(frozen=True)
class Kubectl:
    kubeconfig: Path

    def __call__(self, *arguments: str, given: str | None = None, timeout_seconds: float = 60) -> str:
        """kubectl's output; `given` is its standard input."""
        done = self.attempt(*arguments, given=given, timeout_seconds=timeout_seconds)
        if done.returncode != 0:
            raise SystemExit(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def attempt(
        self, *arguments: str, given: str | None = None, timeout_seconds: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """The same, whatever the exit status."""
        command = [binaries.program(binaries.KUBERNETES, "kubectl"), f"--kubeconfig={self.kubeconfig}", *arguments]
        return subprocess.run(
            command, input=given, capture_output=True, text=True, check=False, timeout=timeout_seconds
        )

    def objects(self, *arguments: str) -> list[dict[str, Any]]:
        """The items of `kubectl get`."""
        items: list[dict[str, Any]] = json.loads(self("get", *arguments, "--output=json"))["items"]
        return items

    def apply(self, *objects: dict[str, Any]) -> None:
        listed = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self("apply", "--server-side", "--force-conflicts", "--filename=-", given=json.dumps(listed))
