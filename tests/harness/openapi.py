"""Walks through an OpenAPI document, and validates values against its schemas."""

from __future__ import annotations

from collections.abc import Iterator

import jsonschema


def nullable(schema: object) -> object:
    """OpenAPI 3.0 writes `nullable`, JSON Schema a list of types."""
    if isinstance(schema, dict):
        changed = {key: nullable(value) for key, value in schema.items() if key != "nullable"}
        if schema.get("nullable"):
            changed["type"] = [changed["type"], "null"]
        return changed
    return [nullable(item) for item in schema] if isinstance(schema, list) else schema


def follow(document: dict, found: dict) -> dict:
    """What a reference leads to; anything else as it is."""
    while "$ref" in found:
        root, *steps = found["$ref"].split("/")
        assert root == "#"
        found = document
        for step in steps:
            found = found[step]
    return found


def operations(document: dict) -> Iterator[dict]:
    for item in document["paths"].values():
        yield from item.values()


def validate(document: dict, value: object, schema: dict) -> None:
    whole = nullable({**schema, "components": document["components"]})
    jsonschema.validate(value, whole, jsonschema.Draft202012Validator)
