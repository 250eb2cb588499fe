"""Routes the Open Inference Protocol over REST, below /v2.

docs/oip.md says what each route does.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, cast

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from service.dataplane.dataplane import DataPlane
from service.errors import BadParameter
from service.telemetry.request_metrics import Reading
from service.transports.http.body import ReceivedBody
from service.transports.http.cors import check_site
from service.transports.http.encoding import codings_of, unpacked
from service.transports.http.hosts import of_management
from service.transports.http.oip_body import (
    HEADER_LENGTH,
    is_long_to_read,
    is_long_to_write,
    members,
    parse,
    read,
    write,
)
from service.transports.http.parameters import timeout_s
from service.transports.http.problems import UNREAD
from service.transports.http.replies import json_reply, unless_gone
from service.transports.oip import faces, server
from service.transports.oip.answers import OipIndexRequest, OipLoadRequest, OipUnloadRequest
from service.transports.oip.inference import infer

TRANSPORT = "http"
REPOSITORY_BODY_BYTES = 64 * 1024
"""How large the body of a request to the repository may be; it holds a few parameters."""

_ALLOW = "models are managed by the name or address of this machine, or by ZOO_ALLOWED_HOSTS"

INFER = re.compile(r"/v2/models/(?P<name>[^/]+)(?:/versions/(?P<version>[^/]+))?/infer")
"""The path of an inference."""


class OipRoutes:
    """The handlers of the protocol, one method per route."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane
        self._hosts = of_management(plane.settings)

    def all(self) -> list[BaseRoute]:
        """Return the routing table."""
        return [
            Route("/v2", self.server, methods=["GET"]),
            Route("/v2/health/live", self.live, methods=["GET"]),
            Route("/v2/health/ready", self.ready, methods=["GET"]),
            Route("/v2/models/stats", self.statistics, methods=["GET"]),
            *self._of_models("", self.metadata, "GET"),
            *self._of_models("/ready", self.model_ready, "GET"),
            *self._of_models("/config", self.config, "GET"),
            *self._of_models("/stats", self.statistics, "GET"),
            *self._of_models("/infer", self.infer, "POST"),
            Route("/v2/repository/index", self.index, methods=["POST"]),
            Route("/v2/repository/models/{name}/load", self.load, methods=["POST"]),
            Route("/v2/repository/models/{name}/unload", self.unload, methods=["POST"]),
        ]

    def _of_models(
        self, path: str, handler: Callable[[Request], Awaitable[Response]], method: str
    ) -> list[BaseRoute]:
        return [
            Route("/v2/models/{name}" + path, handler, methods=[method]),
            Route("/v2/models/{name}/versions/{version}" + path, handler, methods=[method]),
        ]

    async def server(self, request: Request) -> Response:
        """GET /v2: name, version and extensions."""
        return json_reply(server.metadata())

    async def live(self, request: Request) -> Response:
        """GET /v2/health/live: the process answers."""
        return json_reply({"live": True})

    async def ready(self, request: Request) -> Response:
        """GET /v2/health/ready: 200 once the default model answers."""
        ready = self._plane.ready
        return json_reply({"live": True, "ready": ready}, 200 if ready else 503)

    async def metadata(self, request: Request) -> Response:
        """GET /v2/models/{name}: the inputs that a model takes and the outputs that it yields."""
        return json_reply(faces.metadata(self._plane, await self._face(request)))

    async def model_ready(self, request: Request) -> Response:
        """GET /v2/models/{name}/ready: 200 where it answers without being loaded first."""
        name, version = _model_in_path(request)
        ready = await server.model_ready(self._plane, name, version)
        return json_reply({"name": name, "ready": ready}, 200 if ready else 503)

    async def config(self, request: Request) -> Response:
        """GET /v2/models/{name}/config: Triton's model configuration."""
        return json_reply(faces.config(self._plane, await self._face(request)))

    async def statistics(self, request: Request) -> Response:
        """GET /v2/models/{name}/stats and /v2/models/stats: Triton's statistics."""
        name, version = map(request.path_params.get, ("name", "version"))
        return json_reply(
            {"model_stats": await server.model_statistics(self._plane, name, version)}
        )

    async def infer(self, request: Request) -> Response:
        """POST /v2/models/{name}/infer: classify pictures, or compute crops."""
        settings = self._plane.settings
        facts = cast(dict[str, Any], request.scope["zoo"])
        request.scope[UNREAD] = True
        with Reading(TRANSPORT, ClientDisconnect) as request_read:
            deadline = self._deadline(request)
            async with self._body(request, settings.max_body_bytes, deadline) as body:
                name, version = _model_in_path(request)
                length = request.headers.get(HEADER_LENGTH)
                reading = partial(read, name, version, body, length)
                if is_long_to_read(body, length):
                    parsed = await self._plane.offload.run(reading, deadline)
                else:
                    parsed = reading()
                request_read.done()
                work = infer(self._plane, parsed, transport=TRANSPORT, deadline=deadline)
                answer = await unless_gone(work, request.receive)
        facts.update(code="ok", inferences=answer.outputs[0].shape[0])
        if is_long_to_write(answer):
            content, size = await self._plane.offload.run(partial(write, answer), deadline)
        else:
            content, size = write(answer)
        if size is None:
            return Response(content, media_type="application/json")
        headers = {HEADER_LENGTH: str(size)}
        return Response(content, headers=headers, media_type="application/octet-stream")

    async def index(self, request: Request) -> Response:
        """POST /v2/repository/index: every face of every version, and its state."""
        body = await self._repository_request(request, OipIndexRequest, self._deadline(request))
        ready = body.get("ready", False)
        if not isinstance(ready, bool):
            raise BadParameter("ready must be a boolean")
        return json_reply(server.index(self._plane, ready_only=ready))

    async def load(self, request: Request) -> Response:
        """POST /v2/repository/models/{name}/load: load a model."""
        deadline = self._deadline(request)
        parameters = await self._parameters(request, OipLoadRequest, deadline)
        await server.load(self._plane, request.path_params["name"], parameters, deadline)
        return json_reply({})

    async def unload(self, request: Request) -> Response:
        """POST /v2/repository/models/{name}/unload: unload a model."""
        deadline = self._deadline(request)
        parameters = await self._parameters(request, OipUnloadRequest, deadline)
        await server.unload(self._plane, request.path_params["name"], parameters, deadline)
        return json_reply({})

    async def _face(self, request: Request) -> faces.Face:
        name, version = _model_in_path(request)
        return await faces.find(self._plane, name, version)

    def _deadline(self, request: Request) -> float:
        """Return the request's deadline by ``time.perf_counter``. Raises BadParameter."""
        return self._plane.deadline(timeout_s(request.headers))

    async def _repository_request(
        self, request: Request, described: type, deadline: float
    ) -> dict[str, Any]:
        """Return the members of a body of this TypedDict; none where it is empty.

        Raises BadParameter, and Forbidden or MisdirectedRequest for requests of other sites' pages.
        """
        request.scope[UNREAD] = True
        if self._hosts is not None:
            self._hosts.check(request.headers, _ALLOW)
        check_site(request.headers, self._plane.settings.cors_origins)
        async with self._body(request, REPOSITORY_BODY_BYTES, deadline) as body:
            return dict(members(parse(body), described, "the request")) if body else {}

    async def _parameters(
        self, request: Request, described: type, deadline: float
    ) -> dict[str, Any]:
        body = await self._repository_request(request, described, deadline)
        parameters = body.get("parameters", {})
        if not isinstance(parameters, dict):
            raise BadParameter("parameters must be a JSON object")
        return parameters

    @asynccontextmanager
    async def _body(self, request: Request, limit: int, deadline: float) -> AsyncIterator[bytes]:
        budget, codings = self._plane.bodies, codings_of(request.headers)
        async with ReceivedBody(
            request.receive, request.headers, limit, budget, deadline, self._plane.deadlines
        ) as received:
            request.scope[UNREAD] = False
            async with unpacked(received, codings, limit, budget) as body:
                yield body


def _model_in_path(request: Request) -> tuple[str, str | None]:
    """Return the model that the path names, and the version or None."""
    return request.path_params["name"], request.path_params.get("version")
