"""kubectl as the demo and the end-to-end tests use it: apply, get, wait for a condition of ours, never for a time."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import yaml

Object = dict[str, Any]


class KubectlError(Exception):
    """kubectl refused; the message is what it said."""


@dataclass(frozen=True, slots=True)
class Kubectl:
    """One namespace of the cluster that KUBECONFIG names."""

    namespace: str

    def __call__(self, *args: str, stdin: str | None = None, timeout_seconds: float = 60) -> str:
        command = ["kubectl", "--namespace", self.namespace, *args]
        done = subprocess.run(
            command, input=stdin, capture_output=True, text=True, timeout=timeout_seconds, check=False
        )
        if done.returncode:
            raise KubectlError(f"kubectl {' '.join(args)}: {done.stderr.strip()}")
        return done.stdout

    def ensure_namespace(self) -> None:
        """Make the namespace where it is missing; its pods must keep the restricted Pod Security Standard."""
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace, "labels": labels}})

    def apply(self, *objects: Object) -> None:
        self("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=yaml.safe_dump_all(objects))

    def get(self, kind: str, name: str) -> Object | None:
        """None where there is no such object."""
        found = self("get", kind, name, "--ignore-not-found", "-o", "json")
        return json.loads(found) if found.strip() else None

    def list(self, kind: str, selector: str = "") -> list[Object]:
        return json.loads(self("get", kind, "-l", selector, "-o", "json"))["items"]

    def delete(self, kind: str, name: str) -> None:
        self("delete", kind, name, "--ignore-not-found", "--wait=true", "--timeout=60s", timeout_seconds=90)

    def until(self, kind: str, name: str, holds: Callable[[Object], object], *, timeout_seconds: float = 240) -> Object:
        """The object once the predicate holds for it. Raises TimeoutError showing its status."""
        last: Object | None = None
        deadline = time.monotonic() + timeout_seconds
        while time.monotonic() < deadline:
            last = self.get(kind, name)
            if last is not None and holds(last):
                return last
            time.sleep(0.5)
        status = json.dumps((last or {}).get("status"), indent=1)
        raise TimeoutError(f"{kind} {name} in {self.namespace} is not there after {timeout_seconds} s: {status}")

    def settled(self, kind: str, name: str, *, timeout_seconds: float = 300) -> Object:
        """The object once its newest spec is either Ready or Stalled."""
        return self.until(
            kind,
            name,
            lambda obj: observed(obj) and (is_true(obj, "Ready") or is_true(obj, "Stalled")),
            timeout_seconds=timeout_seconds,
        )


def observed(obj: Object) -> bool:
    return obj.get("status", {}).get("observedGeneration") == obj["metadata"]["generation"]


def condition(obj: Object, kind: str) -> Object:
    """The condition of that type; an empty one where there is none."""
    return next((c for c in obj.get("status", {}).get("conditions", ()) if c["type"] == kind), {})


def is_true(obj: Object, kind: str) -> bool:
    return condition(obj, kind).get("status") == "True"
