"""Makes the pieces of the OpenAPI document that all its parts use."""

from __future__ import annotations

from typing import Any

from service.errors import ALL, ZooError
from service.transports.http.parameters import TIMEOUT_HEADER
from service.transports.http.problems import MEDIA_TYPE

Json = dict[str, Any]

HEADERS: Json = {
    "X-Request-ID": {
        "description": "The request's id: the client's, or one that was made.",
        "required": True,
        "schema": {"type": "string"},
    }
}
_OF_STATUSES: dict[int, tuple[str, Json, str]] = {
    401: ("WWW-Authenticate", {"type": "string"}, "`Bearer`."),
    415: ("Accept-Encoding", {"type": "string"}, "The codings of a body that are decoded."),
    429: ("Retry-After", {"type": "integer"}, "Seconds after which a second try is sensible."),
    503: ("Retry-After", {"type": "integer"}, "Seconds after which a second try is sensible."),
}
"""The header that an answer of this status may have: its name, schema and description."""
REQUEST_ID: Json = {"X-Request-ID": {"$ref": "#/components/headers/X-Request-ID"}}


def ref(name: str) -> Json:
    """Refer to a schema by its name."""
    return {"$ref": f"#/components/schemas/{name}"}


def answer(description: str, schema: Json, media_type: str = "application/json") -> Json:
    """Describe a response of one media type."""
    return {
        "description": description,
        "headers": dict(REQUEST_ID),
        "content": {media_type: {"schema": schema}},
    }


def problems(*statuses: int, schema: str = "Problem") -> Json:
    """Describe the error responses of these statuses, each with its error codes."""
    return {str(status): _problem(status, schema) for status in statuses}


def _problem(status: int, schema: str) -> Json:
    errors: list[type[ZooError]] = [error for error in ALL if error.http_status == status]
    codes = " or ".join(f"`{error.code}`" for error in errors)
    headers = dict(REQUEST_ID)
    if status in _OF_STATUSES:
        name, of_header, description = _OF_STATUSES[status]
        headers[name] = {"schema": of_header, "description": description}
    return {
        "description": codes,
        "headers": headers,
        "content": {MEDIA_TYPE: {"schema": ref(schema)}},
    }


def get(operation: str, summary: str, schema: str, description: str) -> Json:
    """Describe a GET that answers with the named schema."""
    return {
        "operationId": operation,
        "summary": summary,
        "description": description,
        "responses": {"200": answer(summary, ref(schema))},
    }


def parameter(name: str, schema: Json, description: str) -> Json:
    """Describe a query parameter."""
    return {"name": name, "in": "query", "schema": schema, "description": description}


def header(name: str, schema: Json, description: str) -> Json:
    """Describe a header that a request may have."""
    return {**parameter(name, schema, description), "in": "header"}


def in_path(name: str, example: str, description: str) -> Json:
    """Describe a path parameter."""
    schema: Json = {"type": "string"}
    found = parameter(name, schema, description)
    return {**found, "in": "path", "required": True, "example": example}


def timeout(deadline_ms: int) -> Json:
    """Describe the header that shortens the deadline."""
    return header(
        TIMEOUT_HEADER,
        {"type": "integer", "minimum": 1, "maximum": 999_999_999},
        f"A deadline shorter than the service's own {deadline_ms} ms.",
    )


def object_(properties: Json, *, optional: tuple[str, ...] = (), closed: bool = True) -> Json:
    """Make the schema of an object whose properties are required unless they are ``optional``.

    ``closed``: it has no other properties.
    """
    required = [name for name in properties if name not in optional]
    return {
        "type": "object",
        "properties": properties,
        **({"required": required} if required else {}),  # version 3.0 allows no empty list
        "additionalProperties": not closed,
    }


def one_of(*names: str) -> Json:
    """Make a schema of alternatives. No member tells them apart, so there is no discriminator."""
    return {"oneOf": [ref(name) for name in names]}
