"""The service whose workers never get beyond the loading of their models."""

from __future__ import annotations

import asyncio
from collections.abc import Container

from service.app import ZooService as ZooService
from service.dataplane.dataplane import DataPlane


async def _wait(self: DataPlane, only: Container[str] | None = None) -> None:
    await asyncio.Event().wait()


DataPlane.start = _wait  # type: ignore[method-assign]
