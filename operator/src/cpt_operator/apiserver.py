"""Requests to the API server: who we are, how long we wait, and what an answer other than 2xx means.

    POST …/cpttrials  -> 201 {object}                      the object, as a dict
    PATCH …/status    -> 409 {reason: Conflict}            Conflict
    POST …/pytorchjobs-> 403 "exceeded quota: gpus"        Forbidden, with the server's words
    GET …             -> 503, a timeout, no connection     ApiUnavailable

Objects are dicts all the way: importing the client's typed classes costs 23 MB and a second. Nothing is retried here;
that is the work queue's business. Who writes what stands in `cluster.py` and `lease.py`.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import aiohttp
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config

MANAGER = "cpt-operator"
"""The field manager of everything that we write."""

_TOTAL_SECONDS = 20
_CONNECT_SECONDS = 5
_PAGE = 500
_BEARER = "BearerToken"

Verb = Literal["get", "list", "create", "update", "patch", "apply", "delete"]

_METHODS: Mapping[Verb, tuple[str, str]] = {
    "get": ("GET", "application/json"),
    "list": ("GET", "application/json"),
    "create": ("POST", "application/json"),
    "update": ("PUT", "application/json"),
    "patch": ("PATCH", "application/json-patch+json"),
    "apply": ("PATCH", "application/apply-patch+yaml"),  # JSON is YAML
    "delete": ("DELETE", "application/json"),
}

Observe = Callable[[str, str, float], None]
"""Called with verb, code and seconds of each request."""


class LoginError(Exception):
    """Neither a kubeconfig nor a pod's ServiceAccount can be used; the message says why."""


class ApiError(Exception):
    """The API server did not do what was asked.

    ApiError
    ├── Conflict        the object is not what the record says: look again
    │   └── NameTaken   an object of that name exists
    ├── Gone            the object does not exist (any more)
    ├── Forbidden       rights, quota or Pod Security: the message says which
    ├── Rejected        the object is invalid or too large, or an admission webhook refuses it: the message says why
    ├── NotServed       the kind is not installed in this cluster
    ├── Expired         a list was not read to its end in time: begin anew
    └── ApiUnavailable  no answer, or one that says "later"
    """


class Conflict(ApiError):
    """The object is not what the record says: look again."""


class NameTaken(Conflict):
    """An object of that name exists."""


class Gone(ApiError):
    """The object does not exist (any more)."""


class Forbidden(ApiError):
    """Rights, quota or Pod Security; the message is the API server's."""


class Rejected(ApiError):
    """The object is invalid or too large, or an admission webhook refuses it; the message is the API server's."""


class NotServed(ApiError):
    """The kind is not installed in this cluster."""


class Expired(ApiError):
    """A list was not read to its end in time: begin anew."""


class ApiUnavailable(ApiError):
    """No answer, or one that says "later"."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What another client needs to be us: kopf's."""

    server: str
    token: str | None
    ca_path: str | None
    certificate_path: str | None
    private_key_path: str | None
    insecure: bool


class ApiServer:
    """One connection pool, one identity."""

    def __init__(self, configuration: Configuration, *, observe: Observe = lambda _verb, _code, _seconds: None) -> None:
        self._configuration = configuration
        self._observe = observe
        self._client = ApiClient(configuration)
        self._client.user_agent = MANAGER

    @classmethod
    async def login(
        cls, kubeconfig: str | None, *, observe: Observe = lambda _verb, _code, _seconds: None
    ) -> ApiServer:
        """As the user of `kubeconfig`, or without one as the pod's ServiceAccount. Raises LoginError."""
        configuration = Configuration()
        try:
            if kubeconfig:
                await load_kube_config(kubeconfig, client_configuration=configuration, persist_config=False)  # type: ignore[no-untyped-call]
            else:
                load_incluster_config(configuration)  # type: ignore[no-untyped-call]
        except ConfigException as error:
            raise LoginError(f"no way to log in: {error} Run in a pod, or set KUBECONFIG to one file.") from None
        return cls(configuration, observe=observe)

    async def close(self) -> None:
        """End the connections."""
        await self._client.close()  # type: ignore[no-untyped-call]

    async def credentials(self) -> Credentials:
        """As they are now: a ServiceAccount's token changes every hour, and its file is read again."""
        header = await self._configuration.get_api_key_with_prefix(_BEARER, alias="authorization")
        return Credentials(
            server=self._configuration.host,
            token=header.split()[-1] if header else None,
            ca_path=self._configuration.ssl_ca_cert,
            certificate_path=self._configuration.cert_file,
            private_key_path=self._configuration.key_file,
            insecure=not self._configuration.verify_ssl,
        )

    async def request(
        self,
        verb: Verb,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | list[Any] | None = None,
        timeout_seconds: float = _TOTAL_SECONDS,
    ) -> dict[str, Any]:
        """The answer's body. Raises ApiError."""
        began = time.monotonic()
        code = "timeout"
        try:
            code, answer = await self._send(verb, path, query or {}, body, timeout_seconds)
        except TimeoutError:
            seconds = time.monotonic() - began
            raise ApiUnavailable(f"the API server did not answer within {seconds:.1f} s") from None
        except aiohttp.ClientError as error:
            code = "unreachable"
            raise ApiUnavailable(f"the API server does not answer: {error}") from None
        finally:
            self._observe(verb, code, time.monotonic() - began)
        document = _object(answer)
        if code.startswith("2") and document is not None:
            return document
        raise _refusal(int(code), document or {"message": answer.decode(errors="replace")[:500]})

    async def _send(
        self, verb: Verb, path: str, query: Mapping[str, str], body: Any, timeout_seconds: float
    ) -> tuple[str, bytes]:
        http_method, content_type = _METHODS[verb]
        method, url, headers, _, post = await self._client.param_serialize(
            http_method,
            path,
            query_params=list(query.items()),
            header_params={"Accept": "application/json", "Content-Type": content_type},
            auth_settings=[_BEARER],
        )
        timeout = aiohttp.ClientTimeout(total=timeout_seconds, connect=min(_CONNECT_SECONDS, timeout_seconds))
        response = await self._client.call_api(method, url, headers, body, post, _request_timeout=timeout)
        return str(response.status), await response.read()  # type: ignore[no-untyped-call]

    async def pages(self, path: str, *, query: Mapping[str, str] | None = None) -> AsyncIterator[dict[str, Any]]:
        """A whole list, page by page; each page tells the version that all of them are of. Raises ApiError."""
        more = ""
        while True:
            cursor = {"limit": str(_PAGE)} | ({"continue": more} if more else {})
            page = await self.request("list", path, query={**(query or {}), **cursor})
            yield page
            more = page.get("metadata", {}).get("continue") or ""
            if not more:
                return

    async def serves(self, group_version_path: str, plural: str) -> bool:
        """Whether that kind is installed. Raises ApiError."""
        try:
            found = await self.request("get", group_version_path)
        except (Gone, NotServed):
            return False
        return any(resource.get("name") == plural for resource in found.get("resources", ()))


def _object(answer: bytes) -> dict[str, Any] | None:
    """None for what is no JSON object, such as a proxy's page."""
    try:
        document = json.loads(answer)
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def _refusal(code: int, status: Mapping[str, Any]) -> ApiError:
    """What an answer that is no object means."""
    reason, message = str(status.get("reason", "")), str(status.get("message") or f"HTTP {code}")
    match code:
        case 404:
            # only an object that is not there has a name in `details`; for a kind that is not there, nobody knows one
            return Gone(message) if (status.get("details") or {}).get("name") else NotServed(message)
        case 409:
            return NameTaken(message) if reason == "AlreadyExists" else Conflict(message)
        case 410:
            return Expired(message)
        case 403:
            return Forbidden(message)
        case 400 | 405 | 413 | 415 | 422:
            return Rejected(message)
        case _:  # 401 too: a token that is being replaced is better a moment later
            return ApiUnavailable(f"{message} (HTTP {code})")
