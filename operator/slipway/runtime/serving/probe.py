"""Startup probe: exits 0 if Triton answers the golden requests as the packed model does, else 1 with the reason.

Triton may be ready and yet give no answers, or wrong ones (a stub with another numpy returns empty outputs), so
readiness is not enough. The probe needs only the standard library, so that it runs in any serving image.

    python3 probe.py [HOST:PORT]      default: SLIPWAY_TRITON, else localhost:8000; requests.json is beside it
"""

from __future__ import annotations

import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

TIMEOUT_SECONDS = 5
Client = Callable[[dict[str, Any]], dict[str, Any]]


def classes(values: list[float], width: int) -> list[int]:
    """Return the index of the largest value of each row."""
    rows = [values[start : start + width] for start in range(0, len(values), width)]
    return [max(range(len(row)), key=row.__getitem__) for row in rows]


def difference(expected: dict[str, Any], answered: dict[str, Any] | None, tolerance: float) -> str | None:
    """Return the difference of the answered output from the expected one; None if there is none."""
    name = expected["name"]
    if answered is None:
        return f"output {name} is missing"
    values = answered.get("data", [])
    if len(values) != len(expected["data"]):
        return f"output {name} has {len(values)} values, not {len(expected['data'])}"
    # A NaN or null is outside the tolerance: the comparison must be true, not just not false.
    far = [
        (want, got)
        for want, got in zip(expected["data"], values)  # noqa: B905 - the lengths are equal, and old Pythons serve
        if not (isinstance(got, (int, float)) and abs(got - want) <= tolerance)
    ]
    if far:
        want, got = far[0]
        return f"output {name} has {len(far)} of {len(values)} values off by more than {tolerance}: {got} for {want}"
    width = expected["shape"][-1]
    if len(expected["shape"]) == 2 and classes(values, width) != classes(expected["data"], width):
        return f"output {name} has other classes"
    return None


def check(golden: dict[str, Any], client: Client) -> str | None:
    """Return the first difference of the server from the artifact, or None. client: body of a request -> body of the
    answer.
    """
    for number, request in enumerate(golden["requests"]):
        answers = {output["name"]: output for output in client({"inputs": request["inputs"]}).get("outputs", [])}
        for expected in request["outputs"]:
            reason = difference(expected, answers.get(expected["name"]), golden["tolerance"])
            if reason:
                return f"golden request {number}: {reason}"
    return None


def make_client(server: str, model: str) -> Client:
    """Return a function that sends one inference request (KServe's v2 protocol over HTTP)."""
    url = f"http://{server}/v2/models/{model}/infer"
    # No proxy: a pod's HTTP_PROXY must not stand between the probe and its own server.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def client(body: dict[str, Any]) -> dict[str, Any]:
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(url, json.dumps(body).encode(), headers)
        with opener.open(request, timeout=TIMEOUT_SECONDS) as answer:
            body = json.load(answer)
            return body if isinstance(body, dict) else {}

    return client


def main(arguments: list[str]) -> int:
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "requests.json"), encoding="utf-8") as file:
        golden = json.load(file)
    server = arguments[0] if arguments else os.environ.get("SLIPWAY_TRITON", "localhost:8000")
    try:
        reason = check(golden, make_client(server, golden["model"]))
    except urllib.error.HTTPError as error:
        reason = f"Triton answered {error.code}: {error.read(300).decode(errors='replace')}"
    except (OSError, ValueError) as error:
        reason = f"no answer from {server}: {error}"
    if reason:
        print(" ".join(reason.split()))
        return 1
    print(f"{golden['model']}: {len(golden['requests'])} golden requests answered as the artifact does")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
