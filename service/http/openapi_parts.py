"""Pieces of the OpenAPI document that every part of it uses."""

from __future__ import annotations

from typing import Any

from service.errors import ALL, ZooError
from service.http.problems import MEDIA_TYPE

Json = dict[str, Any]

HEADERS: Json = {
    "X-Request-ID": {
        "description": "The request's id: the client's, or one that was made.",
        "schema": {"type": "string"},
    }
}
REQUEST_ID: Json = {"X-Request-ID": {"$ref": "#/components/headers/X-Request-ID"}}


def ref(name: str) -> Json:
    """A schema by its name."""
    return {"$ref": f"#/components/schemas/{name}"}


def answer(description: str, schema: Json) -> Json:
    """A response in JSON."""
    return {
        "description": description,
        "headers": REQUEST_ID,
        "content": {"application/json": {"schema": schema}},
    }


def problems(*statuses: int, schema: str = "Problem") -> Json:
    """The responses of these statuses, each with the codes it stands for."""
    return {str(status): _problem(status, schema) for status in statuses}


def _problem(status: int, schema: str) -> Json:
    errors: list[type[ZooError]] = [error for error in ALL if error.http_status == status]
    codes = " or ".join(f"`{error.code}`" for error in errors)
    headers = dict(REQUEST_ID)
    if status == 429:
        headers["Retry-After"] = {"schema": {"type": "integer"}, "description": "Seconds."}
    return {
        "description": codes,
        "headers": headers,
        "content": {MEDIA_TYPE: {"schema": ref(schema)}},
    }


def get(operation: str, summary: str, schema: str) -> Json:
    """A GET that cannot fail."""
    return {
        "operationId": operation,
        "summary": summary,
        "responses": {"200": answer(summary, ref(schema))},
    }


def parameter(name: str, schema: Json, description: str) -> Json:
    """A parameter of the query."""
    return {"name": name, "in": "query", "schema": schema, "description": description}


def object_(properties: Json, *, optional: tuple[str, ...] = (), closed: bool = True) -> Json:
    """An object whose properties are all there but for the ``optional`` ones."""
    return {
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name not in optional],
        "additionalProperties": not closed,
    }
