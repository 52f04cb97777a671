"""Which addresses a pod reaches, asked in the pod itself."""

from __future__ import annotations

import json

from demo.kubectl import Kubectl

_CONNECTS = """
import json, socket, sys
from concurrent.futures import ThreadPoolExecutor

def reached(target):
    host, _, port = target.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
    except OSError:
        return False
    return True

targets = sys.argv[1:]
with ThreadPoolExecutor() as pool:
    print(json.dumps([target for target, found in zip(targets, pool.map(reached, targets)) if found]))
"""
_LISTENS = """
import json

def ports(table):
    for line in open(table).readlines()[1:]:
        address, state = line.split()[1], line.split()[3]
        host, port = address.split(":")
        # 7F000001 and ::1, in the kernel's byte order
        if state == "0A" and host not in ("0100007F", "00000000000000000000000001000000"):
            yield int(port, 16)

print(json.dumps(sorted({*ports("/proc/net/tcp"), *ports("/proc/net/tcp6")})))
"""


def reached(kubectl: Kubectl, pod: str, *targets: str) -> list[str]:
    """Those of the targets (host:port) that take a TCP connection of the pod within a second."""
    found: list[str] = json.loads(kubectl("exec", pod, "--", "python", "-c", _CONNECTS, *targets))
    return found


def listens(kubectl: Kubectl, pod: str) -> list[int]:
    """The TCP ports that the pod listens on, but for those of its loopback interface alone."""
    found: list[int] = json.loads(kubectl("exec", pod, "--", "python", "-c", _LISTENS))
    return found
