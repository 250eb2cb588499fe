"""Answers the protocol's questions about the server, its repository and its statistics."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, cast

from service import __version__
from service.dataplane.dataplane import DataPlane
from service.errors import BadParameter, NotReady
from service.repository.servable import Servable
from service.telemetry import version_stats
from service.telemetry.version_stats import Batches, Duration, Statistics
from service.transports.oip import faces
from service.transports.oip.answers import (
    OipBatchStatistics,
    OipIndexEntry,
    OipInferenceStatistics,
    OipModelStatistics,
    OipServer,
)

NAME = "imagenet-zoo-server"
EXTENSIONS = (
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "parameters",
    "statistics",
)


def metadata() -> OipServer:
    """Return what GET /v2 and ServerMetadata answer."""
    return {"name": NAME, "version": __version__, "extensions": list(EXTENSIONS)}


async def model_ready(plane: DataPlane, name: str, version: str | None) -> bool:
    """Whether a model answers without being loaded first. Raises UnknownModel."""
    try:
        return (await faces.find(plane, name, version)).model.ready
    except NotReady:  # refused or unloaded
        return False


async def model_statistics(
    plane: DataPlane, name: str | None, version: str | None
) -> list[OipModelStatistics]:
    """Return Triton's model_stats in its JSON form, of one model or all, one version or all.

    The faces of a model share its statistics, so a list of all models names each once. Raises
    UnknownModel.
    """
    if name is None:
        chosen = plane.models()
    else:
        versions = await plane.versions(faces.base(name))
        chosen = [model for model in versions if version in (None, model.version)]
        if not chosen or name != faces.base(name):
            await faces.find(plane, name, version)

    def read() -> list[OipModelStatistics]:
        return [_statistics(name, model) for model in chosen]

    return await asyncio.to_thread(read)


def index(plane: DataPlane, *, ready_only: bool) -> list[OipIndexEntry]:
    """Return every face of every version in the repository. Raises ManagementClosed."""
    return [
        {"name": name, "version": entry.version, "state": entry.state, "reason": entry.reason}
        for entry in plane.index(ready_only)
        for name in faces.names(plane, entry.name, entry.version)
    ]


async def load(
    plane: DataPlane, name: str, parameters: Mapping[str, object], deadline: float
) -> None:
    """Load a model, named by any of its faces, before ``deadline`` (``time.perf_counter``).

    The parameter `versions` is a version policy as in ZOO_VERSIONS. Raises BadParameter, and what
    `DataPlane.load` raises.
    """
    for key in parameters:
        if key != "versions":
            raise BadParameter(
                f"the parameter {key[:64]!r} cannot be given, only 'versions': a model is loaded "
                "as it lies in the repository"
            )
    versions = parameters.get("versions")
    if not isinstance(versions, str | None):
        raise BadParameter("the parameter 'versions' must be text: all, latest, latest:2 or 1,3")
    await plane.load(faces.base(name), versions, deadline)


async def unload(
    plane: DataPlane, name: str, parameters: Mapping[str, object], deadline: float
) -> None:
    """Unload a model, named by any of its faces; all its faces go.

    Raises BadParameter, and what `DataPlane.unload` raises.
    """
    for key, value in parameters.items():
        if key != "unload_dependents" or value is not False:
            raise BadParameter(
                f"the parameter {key[:64]!r} is not allowed: only 'unload_dependents': false, as "
                "the networks of an ensemble are models of their own"
            )
    await plane.unload(faces.base(name), deadline)


def _statistics(name: str | None, model: Servable) -> OipModelStatistics:
    found = version_stats.of(model.name, model.version)
    never = asdict(Duration())
    return {
        "name": name or model.name,
        "version": model.version,
        "last_inference": found.last_ms,
        "inference_count": found.inferences,
        "execution_count": found.executions,
        "inference_stats": cast(
            OipInferenceStatistics,
            {**_durations(found), "cache_hit": never, "cache_miss": never},
        ),
        "batch_stats": [
            cast(OipBatchStatistics, {"batch_size": each.crops, **_durations(each)})
            for each in found.batches
        ],
    }


def _durations(found: Statistics | Batches) -> dict[str, Any]:
    """Return the fields that are durations, in their order."""
    fields = found._asdict().items()
    return {name: asdict(each) for name, each in fields if isinstance(each, Duration)}
