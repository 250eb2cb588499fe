"""The BentoML service: wiring only. ``bentoml serve service.app:ZooService``.

BentoML starts the workers, owns the socket and hands every request to the mounted app; its own
metrics and access log are off, because ours say the same with bounded labels.
"""

from __future__ import annotations

import logging
import sys
from typing import Any, cast

import bentoml

from service import logs, settings
from service.dataplane import DataPlane
from service.http.app import OwnPaths, create_app

try:
    _settings = settings.load()
except settings.InvalidSettingsError as invalid:
    sys.exit(f"bad setting {invalid}")

logs.configure(_settings)
_plane = DataPlane(_settings)
_app = create_app(_plane)

BENTOML_TIMEOUT_MARGIN_S = 10
"""BentoML's own time-out answers without a problem document, so ours must come first."""


@bentoml.service(
    name="imagenet_zoo",
    workers=_settings.workers,
    traffic={"timeout": _settings.deadline_ms / 1e3 + BENTOML_TIMEOUT_MARGIN_S},
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
)
@bentoml.asgi_app(_app, path="/")
class ZooService:
    """ImageNet classification; the routes are in `service.http.app`."""

    @bentoml.on_startup  # type: ignore[untyped-decorator]
    async def start(self) -> None:
        """Load the models before the worker accepts its first connection."""
        for name in settings.unknown_variables():
            logging.getLogger("zoo").warning("%s is not a setting of this service", name)
        await _plane.start()

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]
    async def stop(self) -> None:
        """Finish what was accepted."""
        await _plane.stop()


cast(Any, ZooService).add_asgi_middleware(OwnPaths, own=_app)  # the decorator made it a Service
