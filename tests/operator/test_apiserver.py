"""What answers of an API server mean; over real HTTP, against a server that says what a test wants."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from kubernetes.aio.client.configuration import Configuration

from cpt_operator import apiserver
from cpt_operator.apiserver import ApiServer, LoginError


class Says:
    """An API server that answers what it was told to, in turn; the last one again and again."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, Any]] = [(200, {})]
        self.requests: list[web.Request] = []
        self.bodies: list[str] = []
        self.hangs = False

    async def handle(self, request: web.Request) -> web.Response:
        """Any method, any path."""
        self.requests.append(request)
        self.bodies.append(await request.text())
        if self.hangs:
            await asyncio.sleep(60)
        code, body = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return web.Response(status=code, text=body if isinstance(body, str) else json.dumps(body))


@pytest.fixture
async def server() -> AsyncIterator[tuple[Says, ApiServer, list[tuple[str, str]]]]:
    """A server, a client, and what was observed of its requests."""
    says = Says()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", says.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    observed: list[tuple[str, str]] = []
    configuration = Configuration(host=f"http://127.0.0.1:{runner.addresses[0][1]}")
    configuration.api_key["BearerToken"] = "bearer token-1"
    api = ApiServer(configuration, observe=lambda verb, code, _seconds: observed.append((verb, code)))
    try:
        yield says, api, observed
    finally:
        await api.close()
        await runner.cleanup()


def refusal(reason: str, **details: Any) -> dict[str, Any]:
    return {"kind": "Status", "reason": reason, "message": f"it is {reason}", "details": details}


@pytest.mark.parametrize(("code", "body", "error"), [
    (400, refusal("BadRequest"), apiserver.Rejected),
    (401, refusal("Unauthorized"), apiserver.ApiUnavailable),
    (403, refusal("Forbidden"), apiserver.Forbidden),
    (404, refusal("NotFound", name="x"), apiserver.Gone),
    (404, "404 page not found", apiserver.NotServed),
    (404, refusal("NotFound"), apiserver.NotServed),
    (409, refusal("AlreadyExists"), apiserver.NameTaken),
    (409, refusal("Conflict"), apiserver.Conflict),
    (410, refusal("Expired"), apiserver.Expired),
    (413, "too large", apiserver.Rejected),
    (422, refusal("Invalid"), apiserver.Rejected),
    (429, refusal("TooManyRequests"), apiserver.ApiUnavailable),
    (500, refusal("InternalError"), apiserver.ApiUnavailable),
    (503, "no backend", apiserver.ApiUnavailable),
    (200, "<html>a proxy's page</html>", apiserver.ApiUnavailable),
])  # fmt: skip
async def test_refusals(server: Any, code: int, body: Any, error: type[apiserver.ApiError]) -> None:
    """Each becomes one error, with the server's words."""
    says, api, observed = server
    says.answers = [(code, body)]
    with pytest.raises(apiserver.ApiError) as refused:
        await api.request("get", "/x")
    assert type(refused.value) is error
    assert (body["message"] if isinstance(body, dict) else body[:20]) in str(refused.value)
    assert observed == [("get", str(code))]


async def test_no_answer(server: Any) -> None:
    """Within its time: unavailable, and no retry behind the queue's back."""
    says, api, observed = server
    says.hangs = True
    with pytest.raises(apiserver.ApiUnavailable, match="did not answer within"):
        await api.request("delete", "/x", timeout_seconds=0.05)
    assert observed == [("delete", "timeout")]
    assert len(says.requests) == 1


async def test_nobody_there() -> None:
    """No connection."""
    api = ApiServer(Configuration(host="http://127.0.0.1:9"))
    with pytest.raises(apiserver.ApiUnavailable, match="does not answer"):
        await api.request("get", "/x")
    await api.close()


@pytest.mark.parametrize(("verb", "method", "content"), [
    ("apply", "PATCH", "application/apply-patch+yaml"),
    ("patch", "PATCH", "application/json-patch+json"),
    ("create", "POST", "application/json"),
    ("update", "PUT", "application/json"),
    ("delete", "DELETE", "application/json"),
])  # fmt: skip
async def test_requests(server: Any, verb: Any, method: str, content: str) -> None:
    """The method, the content type, who we are, and the body as it was given."""
    says, api, _ = server
    body: Any = [{"op": "add"}] if verb == "patch" else {"a": None, "b": 1}
    await api.request(verb, "/x", query={"fieldManager": "cpt-operator"}, body=body)
    (request,) = says.requests
    assert (request.method, request.path_qs) == (method, "/x?fieldManager=cpt-operator")
    assert request.headers["Content-Type"] == content
    assert request.headers["Authorization"] == "bearer token-1"
    assert json.loads(says.bodies[0]) == body


async def test_pages(server: Any) -> None:
    """A list is read to its end."""
    says, api, _ = server
    says.answers = [(200, {"items": [1], "metadata": {"continue": "more"}}), (200, {"items": [2], "metadata": {}})]
    pages = [page["items"] async for page in api.pages("/x", query={"labelSelector": "a"})]
    assert pages == [[1], [2]]
    assert [request.query.get("continue") for request in says.requests] == [None, "more"]
    assert {request.query["labelSelector"] for request in says.requests} == {"a"}


async def test_serves(server: Any) -> None:
    """By the discovery document; without one, it is not served."""
    says, api, _ = server
    says.answers = [
        (200, {"resources": [{"name": "pytorchjobs"}]}),
        (200, {"resources": []}),
        (404, "404 page not found"),
    ]
    assert [await api.serves("/apis/kubeflow.org/v1", "pytorchjobs") for _ in range(3)] == [True, False, False]


async def test_a_kubeconfig_that_is_not_there(tmp_path: Path) -> None:
    """The message says how to log in."""
    with pytest.raises(LoginError, match="KUBECONFIG"):
        await ApiServer.login(str(tmp_path / "nothing"))


async def test_outside_of_a_pod() -> None:
    """The same."""
    with pytest.raises(LoginError, match="KUBECONFIG"):
        await ApiServer.login(None)


async def test_credentials_for_kopf(server: Any) -> None:
    """The same server and token."""
    _, api, _ = server
    us = await api.credentials()
    assert (us.token, us.server.startswith("http://127.0.0.1:")) == ("token-1", True)
