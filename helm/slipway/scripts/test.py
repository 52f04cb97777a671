"""The checks of `helm test`, in a pod of the operator's image: one line each; exit code 1 if one fails.

Environment: METRICS, a URL. LEASE of NAMESPACE, empty without election. PLUGINS by name and STORES by namespace/name,
with spaces between. SECONDS to wait for what is still to come. ACCOUNT, the folder of the account's token.
"""

import json
import os
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

GROUP = "/apis/slipway.dev/v1alpha1"
KINDS = {"artifactstores", "compressionplugins", "gpupools", "modeldeployments", "steps", "trainingjobs"}
ACCOUNT = Path(os.environ.get("ACCOUNT", "/var/run/secrets/kubernetes.io/serviceaccount"))
REQUEST_SECONDS = 10


class Failed(Exception):
    """The message says what is missing."""


def api(path: str) -> dict:
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    authorization = {"Authorization": f"Bearer {(ACCOUNT / 'token').read_text().strip()}"}
    request = Request(f"https://{f'[{host}]' if ':' in host else host}:{port}{path}", headers=authorization)
    trusted = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    try:
        with urlopen(request, timeout=REQUEST_SECONDS, context=trusted) as answer:  # noqa: S310
            return json.load(answer)
    except HTTPError as error:
        raise Failed(f"{error.code} {error.reason}: {path}") from error


def served() -> str:
    missing = KINDS - {resource["name"] for resource in api(GROUP)["resources"]}
    if missing:
        raise Failed(f"not served: {', '.join(sorted(missing))}; set crds.install, or apply the CRDs of this version")
    return f"{len(KINDS)} kinds of slipway.dev/v1alpha1"


def ready() -> str:
    """The Service leads to ready pods alone."""
    with urlopen(os.environ["METRICS"], timeout=REQUEST_SECONDS) as answer:  # noqa: S310
        if b"leader_election_master_status" not in answer.read():
            raise Failed(f"{os.environ['METRICS']} does not show the operator's metrics")
    return f"ready, with metrics at {os.environ['METRICS']}"


def leads() -> str:
    lease = os.environ["LEASE"]
    spec = api(f"/apis/coordination.k8s.io/v1/namespaces/{os.environ['NAMESPACE']}/leases/{lease}").get("spec", {})
    holder, renewed = spec.get("holderIdentity"), spec.get("renewTime")
    if not (holder and renewed) or time.time() > _seconds(renewed) + spec["leaseDurationSeconds"]:
        raise Failed(f"nobody holds the Lease {lease}")
    return holder


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


def plugin(name: str) -> str:
    return api(f"{GROUP}/compressionplugins/{name}")["metadata"]["name"]


def store(place: str) -> str:
    """One that waits for its volume or its bucket is there all the same."""
    namespace, name = place.split("/")
    found = api(f"{GROUP}/namespaces/{namespace}/artifactstores/{name}")
    return f"{place} is {found.get('status', {}).get('phase', 'new')}"


def checks() -> Iterator[tuple[str, Callable[[], str]]]:
    yield "CRDs", served
    yield "operator", ready
    if os.environ["LEASE"]:
        yield "leader", leads
    for name in os.environ["PLUGINS"].split():
        yield "plugin", partial(plugin, name)
    for place in os.environ["STORES"].split():
        yield "store", partial(store, place)


def holds(name: str, check: Callable[[], str], deadline: float) -> bool:
    """Asks again until the deadline: a release is tested right after its install."""
    while True:
        try:
            print("ok  ", name, check(), flush=True)
        except (Failed, OSError) as error:
            if time.monotonic() > deadline:
                print("FAIL", name, error, flush=True)
                return False
            time.sleep(1)
        else:
            return True


if __name__ == "__main__":
    ends_at = time.monotonic() + float(os.environ["SECONDS"])
    told = [holds(name, check, ends_at) for name, check in checks()]
    sys.exit(not all(told))
