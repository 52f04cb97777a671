"""One authenticated HTTP connection pool to an API server: raw JSON in and out.

Credentials come from kubernetes.aio: the pod's service account (its token is read again every minute), or KUBECONFIG
with client certificates, tokens or exec plugins.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Mapping
from typing import Any, Self
from urllib.parse import urlencode

import aiohttp
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config.incluster_config import SERVICE_HOST_ENV_NAME

from slipway.api.errors import ClusterError
from slipway.cluster.answers import error_of

Told = Callable[[str, int], None]
"""Hears of every answer: HTTP method, and status code (0 where none came)."""

CALL_SECONDS = 15.0
CONNECT_SECONDS = 5.0


class Connection:
    """Calls one API server. Raises ClusterError and its kinds only."""

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        self.told: Told = _nothing
        self._client: Any = ApiClient(configuration)

    @classmethod
    async def open(cls, kubeconfig: str | None = None, context: str | None = None) -> Self:
        """Connect as KUBECONFIG says, or as the pod's service account where we are in one and no file is named.

        Raises ClusterError where no credentials are found.
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
            raise ClusterError(f"no way into a cluster: {error}; set KUBECONFIG to a readable file") from error
        return cls(configuration)

    @property
    def host(self) -> str:
        return str(self.configuration.host)

    @property
    def ssl_context(self) -> Any:
        """For another session to the same server."""
        return self._client.rest_client.ssl_context

    async def authorization(self) -> str | None:
        """The Authorization header of this moment, None where a client certificate says who we are."""
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
        """One request and its JSON answer. what: the call for people, shown in errors."""
        headers = {"Content-Type": content_type, "Accept": accept, "User-Agent": "slipway"}
        code = 0
        try:
            if authorization := await self.authorization():
                headers["Authorization"] = authorization
            response = await self._client.rest_client.request(
                method,
                f"{self.host}{path}?{urlencode(query)}" if query else f"{self.host}{path}",
                headers=headers,
                body=body,
                _request_timeout=aiohttp.ClientTimeout(total=seconds, sock_connect=min(seconds, CONNECT_SECONDS)),
            )
            answer = await response.read()
            code = response.status
        except TimeoutError as error:
            raise ClusterError(f"{what}: no answer within {seconds:g} s") from error
        except (aiohttp.ClientError, OSError, config.ConfigException) as error:
            raise ClusterError(f"{what}: {type(error).__name__}: {error}") from error
        finally:
            self.told(method, code)
        if code > 399:
            raise error_of(what, code, answer, response.headers)
        try:
            return json.loads(answer)
        except ValueError as error:
            raise ClusterError(f"{what}: the answer is no JSON: {answer[:64]!r}") from error

    async def close(self) -> None:
        await self._client.close()
        await asyncio.sleep(0)  # lets the transports close before the loop does

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _nothing(_method: str, _code: int) -> None:
    pass
