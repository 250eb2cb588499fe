"""The HTTP routes: query and body in, JSON out. The data plane does the work between."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from service.dataplane.dataplane import DataPlane
from service.errors import ZooError, let_go
from service.repository.servable import Refusal
from service.telemetry import exporter
from service.telemetry.request_metrics import Reading
from service.transports.auth import Access
from service.transports.http.answers import (
    Classifications,
    Details,
    Liveness,
    ModelList,
    Readiness,
    classification,
    result,
)
from service.transports.http.body import ReceivedBody, pictures
from service.transports.http.cors import Cors
from service.transports.http.docs import PAGE, STATIC_FILES, STATIC_FOLDER
from service.transports.http.encoding import codings_of, unpacked
from service.transports.http.guard import Guard
from service.transports.http.hosts import Hosts, check_host
from service.transports.http.keys import check_key
from service.transports.http.oip import INFER, OipRoutes
from service.transports.http.openapi import document
from service.transports.http.parameters import asked, timeout_s
from service.transports.http.problems import UNREAD, answer_error
from service.transports.http.replies import json_reply, unless_gone
from service.transports.http.requests import RequestMiddleware

if TYPE_CHECKING:
    from service.telemetry.spans import Tracer


def create_app(plane: DataPlane, tracer: Tracer | None = None) -> ASGIApp:
    """The app over one data plane, which is started and stopped by its owner.

    What comes out is not a Starlette object but a plain ASGI app around one: BentoML hands every
    path that is not its own to such an app, so unknown paths are answered here as well.
    """
    routes, oip = Routes(plane), OipRoutes(plane)
    errors = (HTTPException, ZooError, ClientDisconnect, Exception)
    handlers = dict.fromkeys(errors, answer_error)
    app = Starlette(routes=[*routes.all(), *oip.all()], exception_handlers=handlers)
    app.router.redirect_slashes = False
    guarded: ASGIApp = _Shortcut(routes.classify, oip.infer, app)
    access = Access.of(plane.settings)
    if access is not None:
        guarded = Guard(guarded, partial(check_key, access))
    if plane.settings.cors_origins:  # outside: a browser must be able to read a refusal
        guarded = Cors(guarded, plane.settings.cors_origins)
    if plane.settings.allowed_hosts:
        guarded = Guard(guarded, partial(check_host, Hosts(plane.settings.allowed_hosts)))
    if tracer is not None:
        from service.transports.http.traces import TraceMiddleware

        guarded = TraceMiddleware(guarded, tracer)
    return RequestMiddleware(guarded)


Handler = Callable[[Request], Awaitable[Response]]


class _Shortcut:
    """What classifies goes straight to its handler, past the layers of a router for all paths."""

    def __init__(self, classify: Handler, infer: Handler, app: ASGIApp) -> None:
        self._classify = classify
        self._infer = infer
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        handler = self._handler(scope)
        if handler is None:
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            response = await handler(request)
        except Exception as error:  # noqa: BLE001  the handler of all errors logs what is a fault
            response = answer_error(request, error)
            let_go(error)
        await response(scope, receive, send)

    def _handler(self, scope: Scope) -> Handler | None:
        if scope["type"] != "http" or scope["method"] != "POST":
            return None
        if scope["path"] == "/classify":
            return self._classify
        if found := INFER.fullmatch(scope["path"]):
            scope["path_params"] = found.groupdict()
            return self._infer
        return None


class Routes:
    """One method per route."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane
        self._openapi = json.dumps(document(plane.settings)).encode()

    def all(self) -> list[BaseRoute]:
        """The routing table."""
        return [
            Route("/classify", self.classify, methods=["POST"]),
            Route("/models", self.models, methods=["GET"]),
            Route("/models/{name}", self.model, methods=["GET"]),
            Route("/livez", self.livez, methods=["GET"]),
            Route("/readyz", self.readyz, methods=["GET"]),
            Route("/metrics", self.metrics, methods=["GET"]),
            Route("/openapi.json", self.openapi, methods=["GET"]),
            Route("/", self.home, methods=["GET"]),
            Route("/docs", self.docs, methods=["GET"]),
            Route("/docs/", self.docs_folder, methods=["GET"]),
            Route("/docs/static/{name}", self.static, methods=["GET"]),
        ]

    async def classify(self, request: Request) -> Response:
        """POST /classify: one picture as the body, or a form of pictures."""
        settings = self._plane.settings
        facts = cast(dict[str, Any], request.scope["zoo"])
        request.scope[UNREAD] = True
        with Reading("http", ClientDisconnect) as request_read:
            query = asked(request.query_params)
            deadline = self._plane.deadline(timeout_s(request.headers))
            limit, budget = settings.max_body_bytes, self._plane.bodies
            codings = codings_of(request.headers)
            received = ReceivedBody(
                request.receive, request.headers, limit, budget, deadline, self._plane.deadlines
            )
            async with received as sent:
                request.scope[UNREAD] = False
                async with unpacked(sent, codings, limit, budget) as body:
                    content_type = request.headers.get("content-type", "")
                    encoded, is_form = pictures(body, content_type, settings.max_pictures)
                    facts["pictures"] = len(encoded)
                    request_read.done()
                    work = self._plane.classify(encoded, query, transport="http", deadline=deadline)
                    answers = await unless_gone(work, request.receive)
        if is_form and len(answers) > 1:
            failed = sum(isinstance(answer, ZooError) for answer in answers)
            facts.update(code="ok", failed=failed)
            return json_reply(Classifications(results=[result(answer) for answer in answers]))
        answer = answers[0]
        if isinstance(answer, ZooError):
            raise answer
        facts["code"] = "ok"
        return json_reply(classification(answer))

    async def models(self, request: Request) -> Response:
        """GET /models: every version in the repository and its state."""
        models = [model.describe() for model in self._plane.models()]
        return json_reply(ModelList(default=self._plane.settings.default_model, models=models))

    async def model(self, request: Request) -> Response:
        """GET /models/{name}: all about the version that answers, and which others there are."""
        name = request.path_params["name"]
        version = request.query_params.get("version")
        versions = [model.describe() for model in await self._plane.versions(name)]
        model = await self._plane.model(name, version)
        manifest = model.manifest.model_dump(mode="json")
        return json_reply({**model.describe(), **Details(manifest=manifest, versions=versions)})

    async def livez(self, request: Request) -> Response:
        """GET /livez: the process answers."""
        return json_reply(Liveness(status="alive"))

    async def readyz(self, request: Request) -> Response:
        """GET /readyz: 200 once the default model answers; names what is loaded and refused."""
        models = self._plane.models()
        refused = [model.describe() for model in models if isinstance(model, Refusal)]
        ready = self._plane.ready
        loaded = [f"{model.name}/{model.version}" for model in models if model.ready]
        content: Readiness = {
            "status": ("degraded" if refused else "ready") if ready else "not_ready",
            "models": loaded,
            "refused": refused,
        }
        return json_reply(content, 200 if ready else 503)

    async def metrics(self, request: Request) -> Response:
        """GET /metrics: Prometheus' text format, of all workers."""
        content = await asyncio.get_running_loop().run_in_executor(
            None, exporter.exposition, self._plane.model_metrics
        )
        return Response(content, headers={"Content-Type": exporter.CONTENT_TYPE})

    async def openapi(self, request: Request) -> Response:
        """GET /openapi.json."""
        return Response(self._openapi, media_type="application/json")

    async def docs(self, request: Request) -> Response:
        """GET /docs: the OpenAPI document as a page that needs nothing from elsewhere."""
        return Response(PAGE, media_type="text/html")

    async def home(self, request: Request) -> Response:
        """GET /: a browser is led to the page; for other clients there is nothing."""
        if not wants_html(request.headers.getlist("accept")):
            raise HTTPException(404, headers={"Vary": "Accept"})
        return _redirect("docs", {"Vary": "Accept"})

    async def docs_folder(self, request: Request) -> Response:
        """GET /docs/: the page is one level higher, as its own links mean it."""
        return _redirect("../docs")

    async def static(self, request: Request) -> Response:
        """GET /docs/static/{name}: the few files that the page asks for."""
        name = request.path_params["name"]
        if name not in STATIC_FILES:
            raise HTTPException(404)
        return FileResponse(STATIC_FOLDER / name)


def wants_html(accept: Sequence[str]) -> bool:
    """Whether these values of Accept name a page; `*/*`, as of curl, asks for none."""
    for each in ",".join(accept).split(","):
        kind, *parameters = (part.strip().lower() for part in each.split(";"))
        refused = any(re.fullmatch(r"q\s*=\s*0(\.0*)?", part) for part in parameters)
        if kind in ("text/html", "application/xhtml+xml") and not refused:
            return True
    return False


def _redirect(target: str, headers: Mapping[str, str] | None = None) -> Response:
    """To a relative URL, which is right below any prefix that a gateway takes off."""
    return Response(status_code=307, headers={"Location": target, **(headers or {})})
