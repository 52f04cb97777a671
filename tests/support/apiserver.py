"""A real kube-apiserver and etcd for the session, with the CRDs of the repository: the fixture `apiserver`."""

from __future__ import annotations

import base64
import http.client
import json
import os
import select
import ssl
import subprocess
import tempfile
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
# Seconds. The server itself needs about three; the rest is for a busy machine.
START_LIMIT = 120
ESTABLISHED_LIMIT = 30
REQUEST_LIMIT = 30
IDLE_LIMIT = 20
"""The server closes connections that nobody uses; one that has rested so long is not used again."""

Json = dict[str, Any]


@dataclass
class ApiServer:
    """A running API server, as its administrator sees it. url: `https://127.0.0.1:PORT`."""

    kubeconfig: Path
    url: str
    context: ssl.SSLContext
    _connection: http.client.HTTPSConnection | None = field(default=None, repr=False)
    _used_at: float = field(default=0.0, repr=False)

    def request(
        self,
        method: str,
        path: str,
        body: Json | None = None,
        *,
        content_type: str = "application/json",
        accept: str = "application/json",
        as_user: str = "",
        **query: str,
    ) -> tuple[int, Json]:
        """The HTTP status and the answer. Refusals are answers, not exceptions. as_user: by impersonation."""
        target = f"{path}?{urllib.parse.urlencode(query)}" if query else path
        text = None if body is None else json.dumps(body)
        if time.monotonic() - self._used_at > IDLE_LIMIT:
            self.close()
        self._used_at = time.monotonic()
        if self._connection is None:
            host = urllib.parse.urlsplit(self.url)
            self._connection = http.client.HTTPSConnection(
                str(host.hostname), host.port, context=self.context, timeout=REQUEST_LIMIT
            )
        try:
            headers = {"Content-Type": content_type, "Accept": accept}
            headers |= {"Impersonate-User": as_user} if as_user else {}
            self._connection.request(method, target, text, headers)
            answer = self._connection.getresponse()
            text_back = answer.read()
        except (http.client.HTTPException, OSError):
            self.close()  # half-used, it would fail every later request of the session as well
            raise
        try:
            return answer.status, json.loads(text_back)
        except ValueError:  # a group that is not served yet: `404 page not found`
            return answer.status, {"message": text_back.decode(errors="replace")}

    def must(self, method: str, path: str, body: Json | None = None, **options: str) -> Json:
        """The answer. Fails where the server refused."""
        status, answer = self.request(method, path, body, **options)
        assert status < 300, f"{method} {path}: {status} {answer.get('message', answer)}"
        return answer

    def authority(self) -> str:
        """The certificate by which the server is known, as PEM."""
        cluster = yaml.safe_load(self.kubeconfig.read_text())["clusters"][0]["cluster"]
        return _decoded(cluster["certificate-authority-data"])

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


@pytest.fixture(scope="session")
def apiserver() -> Iterator[ApiServer]:
    """One server for the whole session. Tests that write use a namespace, or names, of their own."""
    with running() as server:
        install_crds(server)
        yield server


@contextmanager
def running(*flags: str) -> Iterator[ApiServer]:
    """A new server; it ends with the block, or with this process. flags: of dev/cluster/apiserver."""
    command = [str(ROOT / "dev" / "cluster" / "apiserver"), *flags]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            server = connect(Path(_first_line(process)))
            try:
                yield server
            finally:
                server.close()
        finally:
            process.terminate()
            process.wait(timeout=30)


def install_crds(server: ApiServer) -> None:
    """Those of the repository."""
    make_crds(server, *(yaml.safe_load(path.read_text()) for path in sorted((ROOT / "crds").glob("*.yaml"))))


def make_crds(server: ApiServer, *crds: Json) -> None:
    """Creates them and returns when their kinds are served."""
    for crd in crds:
        server.must("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", crd)
    for crd in crds:
        spec = crd["spec"]
        path = f"/apis/{spec['group']}/{spec['versions'][0]['name']}/{spec['names']['plural']}"
        _wait_until_served(server, path)


def restricted_namespace(server: ApiServer, name: str) -> str:
    """A namespace that admits pods of the restricted profile alone, with the account that controllers would make."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    server.must("POST", "/api/v1/namespaces", {"metadata": {"name": name, "labels": labels}})
    server.must("POST", f"/api/v1/namespaces/{name}/serviceaccounts", {"metadata": {"name": "default"}})
    return name


def _wait_until_served(server: ApiServer, path: str) -> None:
    deadline = time.monotonic() + ESTABLISHED_LIMIT
    while True:
        status, answer = server.request("GET", path)
        if status == 200:
            return
        assert time.monotonic() < deadline, f"{path} is not served: {answer}"
        time.sleep(0.05)  # between two questions; the wait is for the answer


def _first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    readable, _, _ = select.select([process.stdout], [], [], START_LIMIT)
    line = process.stdout.readline().strip() if readable else ""
    assert line, f"dev/cluster/apiserver did not come up within {START_LIMIT} s"
    return line


def connect(kubeconfig: Path) -> ApiServer:
    """A connection as the user of a kubeconfig, by client certificate."""
    config = yaml.safe_load(kubeconfig.read_text())
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    context = ssl.create_default_context(cadata=_decoded(cluster["certificate-authority-data"]))
    # ssl reads a client certificate from a file only.
    handle, name = tempfile.mkstemp()
    try:
        with os.fdopen(handle, "w") as pair:
            pair.write(_decoded(user["client-certificate-data"]) + _decoded(user["client-key-data"]))
        context.load_cert_chain(name)
    finally:
        os.unlink(name)
    return ApiServer(kubeconfig, cluster["server"], context)


def _decoded(text: str) -> str:
    return base64.b64decode(text).decode()
