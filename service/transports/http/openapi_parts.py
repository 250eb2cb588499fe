"""Makes the pieces of the OpenAPI document, and schemas of the types that it holds.

A piece says by a Python type what is sent or answered; `write_schemas` puts schemas in their place.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Final

from pydantic import Field, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from service.errors import ALL
from service.transports.http.parameters import MOST_DIGITS, TIMEOUT_HEADER
from service.transports.http.problems import MEDIA_TYPE, OipProblem, Problem

Json = dict[str, Any]

CLASSIFY_ERRORS = (400, 404, 408, 413, 415, 421, 422, 429, 500, 501, 503, 504)
"""The statuses of what a request with pictures or crops can get."""
_MODE: Final = "serialization"
_RETRY = ("Retry-After", int, "Seconds after which a second try is sensible.")
_OF_STATUSES: dict[int, tuple[str, type, str]] = {
    401: ("WWW-Authenticate", str, "`Bearer`."),
    415: ("Accept-Encoding", str, "The codings of a body that are decoded."),
    429: _RETRY,
    503: _RETRY,
}
"""The header that an answer of this status may have: its name, type and description."""


class _Dialect(GenerateJsonSchema):
    """That of OpenAPI 3.0, which has `nullable`, and neither `const` nor lists of types.

    Objects have no members but those of their types.
    """

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return {**self.generate_inner(schema["schema"]), "nullable": True}

    def literal_schema(self, schema: core_schema.LiteralSchema) -> JsonSchemaValue:
        found = super().literal_schema(schema)
        return {"enum": [found.pop("const")], **found} if "const" in found else found

    def union_schema(self, schema: core_schema.UnionSchema) -> JsonSchemaValue:
        # no member tells them apart, so there is no discriminator
        return {"oneOf": super().union_schema(schema)["anyOf"]}

    def typed_dict_schema(self, schema: core_schema.TypedDictSchema) -> JsonSchemaValue:
        found = super().typed_dict_schema(schema)
        del found["title"]  # its name once more
        return {**found, "additionalProperties": False}

    def field_title_should_be_set(self, schema: object) -> bool:
        return False


def write_schemas(document: Json) -> None:
    """Replace each type in a document by its schema; those that have names become components."""
    places = list(_places(document))
    written, named = TypeAdapter.json_schemas(
        [(at, _MODE, TypeAdapter(each["schema"])) for at, each in enumerate(places)],
        ref_template="#/components/schemas/{model}",
        schema_generator=_Dialect,
    )
    for at, place in enumerate(places):
        place["schema"] = written[at, _MODE]
    document["components"]["schemas"] = named["$defs"]


def _places(part: object) -> Iterator[Json]:
    if isinstance(part, dict):
        if "schema" in part:
            yield part
        for each in part.values():
            yield from _places(each)
    elif isinstance(part, list):
        for each in part:
            yield from _places(each)


def answer(description: str, type_: object, media_type: str = "application/json") -> Json:
    """Describe a response of one media type."""
    return {
        "description": description,
        "headers": {"X-Request-ID": {"$ref": "#/components/headers/X-Request-ID"}},
        "content": {media_type: {"schema": type_}},
    }


def problems(*statuses: int, oip: bool = False) -> Json:
    """Describe the error responses of these statuses, each with its error codes."""
    return {str(status): _problem(status, OipProblem if oip else Problem) for status in statuses}


def _problem(status: int, type_: object) -> Json:
    codes = " or ".join(f"`{error.code}`" for error in ALL if error.http_status == status)
    described = answer(codes, type_, MEDIA_TYPE)
    if status in _OF_STATUSES:
        name, of_header, description = _OF_STATUSES[status]
        described["headers"][name] = {"schema": of_header, "description": description}
    return described


def get(operation: str, summary: str, type_: object, description: str, *errors: int) -> Json:
    """Describe a GET that answers with this type, or with one of these errors."""
    oip = operation.startswith("oip")
    return {
        "operationId": operation,
        "summary": summary,
        "description": description,
        "responses": {"200": answer(summary, type_), **problems(*errors, oip=oip)},
    }


def probe(operation: str, summary: str, type_: object, description: str, *errors: int) -> Json:
    """Describe a GET that says by 503, in the same form, that something is not ready."""
    described = get(operation, summary, type_, description, *errors)
    described["responses"]["503"] = answer("Not yet, or not any more", type_)
    return described


def parameter(name: str, type_: object, description: str, place: str = "query") -> Json:
    """Describe a parameter in the query, or in the head (`header`)."""
    return {"name": name, "in": place, "schema": type_, "description": description}


def in_path(name: str, example: str, description: str) -> Json:
    """Describe a parameter in the path."""
    found = parameter(name, str, description, "path")
    return {**found, "required": True, "example": example}


def timeout(deadline_ms: int) -> Json:
    """Describe the header that shortens the deadline."""
    return parameter(
        TIMEOUT_HEADER,
        Annotated[int, Field(ge=1, le=10**MOST_DIGITS - 1)],
        f"A deadline shorter than the service's own {deadline_ms} ms.",
        "header",
    )
