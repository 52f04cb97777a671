"""One authenticated HTTP connection pool to an API server: raw JSON in and out.

Credentials come from kubernetes.aio: the pod's service account (its token is read again every minute), or KUBECONFIG
with client certificates, tokens or exec plugins.
"""

from __future__ import annotations

import asyncio
import os
import urllib.request
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from ipaddress import ip_address, ip_network
from typing import Any, Self
from urllib.parse import urlencode, urlsplit

import aiohttp
import orjson
from kubernetes.aio import config
from kubernetes.aio.client import Configuration
from kubernetes.aio.client.rest import RESTClientObject
from kubernetes.aio.config.incluster_config import SERVICE_HOST_ENV_NAME

from slipway.api.errors import ClusterError
from slipway.cluster.wire import encode, parse_error

OnAnswer = Callable[[str, int], None]
"""Called after every request with its HTTP method and status code (0 without an answer)."""

CALL_SECONDS = 15.0
CONNECT_SECONDS = 5.0


class Connection:
    """A connection pool to one API server. Raises ClusterError and its subclasses only."""

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        self.on_answer: OnAnswer = _ignore
        self._tls: Any = RESTClientObject(configuration).ssl_context
        self._proxy = configuration.proxy or _proxy_from_environment(self.host)
        self._session = self.session()

    @classmethod
    async def open(cls, kubeconfig: str | None = None, context: str | None = None) -> Self:
        """Connect by KUBECONFIG, or by the pod's service account if this is a pod and no file is named.

        Raises ClusterError if no credentials are found.
        """
        configuration = Configuration()
        named = kubeconfig or os.environ.get("KUBECONFIG")
        try:
            if named is None and context is None and SERVICE_HOST_ENV_NAME in os.environ:
                load: Any = config.load_incluster_config
                load(client_configuration=configuration)
            else:
                load = config.load_kube_config
                await load(named, context=context, client_configuration=configuration)
        except (config.ConfigException, OSError) as error:
            raise ClusterError(f"no credentials for a cluster: {error}; set KUBECONFIG to a readable file") from error
        return cls(configuration)

    @property
    def host(self) -> str:
        return str(self.configuration.host)

    def session(self, **options: Any) -> aiohttp.ClientSession:
        """Return another session to the same server, without a limit of connections; the caller closes it.

        options: of aiohttp.ClientSession. trust_env stays off: it would use a thread twice for each call, to look for a
        proxy and for a .netrc.
        """
        connector = aiohttp.TCPConnector(limit=0, ssl=self._tls)
        return aiohttp.ClientSession(
            connector=connector, proxy=self._proxy, headers={"User-Agent": "slipway"}, **options
        )

    @asynccontextmanager
    async def stream_session(self) -> AsyncIterator[aiohttp.ClientSession]:
        """Yield a session for streams (logs, port forwarding): without a total time-out, with the token of now."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
        async with self.session(timeout=timeout) as session:
            if authorization := await self.authorization():
                session.headers["Authorization"] = authorization
            yield session

    async def authorization(self) -> str | None:
        """Return the current Authorization header; None if a client certificate authenticates."""
        settings = (await self.configuration.auth_settings()).get("BearerToken")
        return settings["value"] if settings else None

    async def call(
        self,
        what: str,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        accept: str = "application/json",
        seconds: float = CALL_SECONDS,
    ) -> Any:
        """Send a request and return its JSON answer. what: description of the call for errors."""
        data = None if body is None else encode(what, body)
        headers = {"Content-Type": content_type, "Accept": accept}
        code = 0
        try:
            if authorization := await self.authorization():
                headers["Authorization"] = authorization
            async with self._session.request(
                method,
                f"{self.host}{path}?{urlencode(query)}" if query else f"{self.host}{path}",
                headers=headers,
                data=data,
                timeout=aiohttp.ClientTimeout(total=seconds, sock_connect=min(seconds, CONNECT_SECONDS)),
                server_hostname=self.configuration.tls_server_name,
            ) as response:
                answer = await response.read()
            code = response.status
        except TimeoutError as error:
            raise ClusterError(f"{what}: no answer within {seconds:g} s") from error
        except (aiohttp.ClientError, OSError, config.ConfigException) as error:
            raise ClusterError(f"{what}: {type(error).__name__}: {error}") from error
        finally:
            self.on_answer(method, code)
        if code > 399:
            raise parse_error(what, code, answer, response.headers)
        try:
            return orjson.loads(answer)
        except ValueError as error:
            raise ClusterError(f"{what}: the answer is not JSON: {answer[:64]!r}") from error

    async def close(self) -> None:
        await self._session.close()
        await asyncio.sleep(0)  # lets the transports close before the loop does

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _ignore(_method: str, _code: int) -> None:
    pass


def _proxy_from_environment(url: str) -> str | None:
    """Return the proxy by HTTPS_PROXY and NO_PROXY, as every client of Kubernetes reads them."""
    parts, proxies = urlsplit(url), urllib.request.getproxies()
    if urllib.request.proxy_bypass(parts.netloc) or _is_in(parts.hostname or "", proxies.get("no", "")):
        return None
    return proxies.get(parts.scheme)


def _is_in(host: str, networks: str) -> bool:
    """Return whether an address is in one of the networks (10.0.0.0/8) of NO_PROXY, which urllib does not support."""
    with suppress(ValueError):
        address = ip_address(host)
        for each in networks.split(","):
            with suppress(ValueError):  # a name
                if address in ip_network(each.strip(), strict=False):
                    return True
    return False
