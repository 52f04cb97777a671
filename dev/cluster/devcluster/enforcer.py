"""The process that keeps one node's nftables rules as the NetworkPolicies say, in the network namespace it runs in.

A pod without rules yet is not isolated: it has them as soon as its address is known, mostly before its containers run.
"""

import argparse
import http.client
import json
import ssl
import subprocess
import threading
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from devcluster.policies import pod_of, render

_PATHS = {
    "pods": "/api/v1/pods",
    "namespaces": "/api/v1/namespaces",
    "policies": "/apis/networking.k8s.io/v1/networkpolicies",
}
_GATHER_SECONDS = 0.05
"""Changes that come together are rendered once."""
_RETRY_SECONDS = 1
_SILENCE_SECONDS = 90
"""A watch that says nothing for so long is dead: bookmarks come every minute."""

Json = dict[str, Any]


@dataclass
class View:
    """What the cluster holds, by kind and UID."""

    changed: threading.Event = field(default_factory=threading.Event)
    objects: dict[str, dict[str, Json]] = field(default_factory=dict)

    def rules(self) -> str:
        held = {kind: [*self.objects[kind].values()] for kind in _PATHS}
        return render(
            [pod for obj in held["pods"] if (pod := pod_of(obj))],
            {obj["metadata"]["name"]: obj["metadata"].get("labels", {}) for obj in held["namespaces"]},
            sorted(held["policies"], key=lambda obj: obj["metadata"]["uid"]),
        )


@dataclass(frozen=True)
class Watch:
    """One kind, kept up to date in the view for ever."""

    kind: str
    server: str
    trusted: ssl.SSLContext
    view: View

    def run(self) -> None:
        while True:
            try:
                self._follow()
            except Exception:  # noqa: BLE001 - the cable may be cut, the API server away: it is asked again
                traceback.print_exc()
                time.sleep(_RETRY_SECONDS)

    def _follow(self) -> None:
        with self._get() as answer:
            listed = json.load(answer)
        self._replace({obj["metadata"]["uid"]: obj for obj in listed["items"]})
        start = listed["metadata"]["resourceVersion"]
        with self._get(watch="true", allowWatchBookmarks="true", resourceVersion=start) as answer:
            for line in answer:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    return
                if event["type"] != "BOOKMARK":
                    held = dict(self.view.objects[self.kind])
                    held.pop(event["object"]["metadata"]["uid"], None)
                    if event["type"] != "DELETED":
                        held[event["object"]["metadata"]["uid"]] = event["object"]
                    self._replace(held)

    def _replace(self, objects: dict[str, Json]) -> None:
        self.view.objects[self.kind] = objects
        self.view.changed.set()

    def _get(self, **query: str) -> http.client.HTTPResponse:
        address = urlsplit(self.server)
        connection = http.client.HTTPSConnection(
            str(address.hostname), address.port, timeout=_SILENCE_SECONDS, context=self.trusted
        )
        connection.request("GET", f"{_PATHS[self.kind]}?{urlencode(query)}")
        answer = connection.getresponse()
        if answer.status != http.client.OK:
            raise OSError(f"{_PATHS[self.kind]}: {answer.status} {answer.read()[:200]!r}")
        return answer


def main(arguments: Sequence[str] | None = None) -> int:
    """Enforce the NetworkPolicies of a cluster on this node."""
    parser = argparse.ArgumentParser(prog="enforcer", description=main.__doc__)
    parser.add_argument("--server", required=True)
    for name in ("ca", "certificate", "key"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    options = parser.parse_args(arguments)
    trusted = ssl.create_default_context(cafile=str(options.ca))
    trusted.load_cert_chain(options.certificate, options.key)
    view = View()
    for kind in _PATHS:
        threading.Thread(target=Watch(kind, options.server, trusted, view).run, daemon=True).start()
    loaded = ""
    while True:
        view.changed.wait()
        time.sleep(_GATHER_SECONDS)
        view.changed.clear()
        if set(view.objects) < set(_PATHS):
            continue
        rules = view.rules()
        if rules != loaded:
            subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True, timeout=60)
            loaded = rules


if __name__ == "__main__":
    raise SystemExit(main())
