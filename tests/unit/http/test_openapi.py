"""The OpenAPI document is true: what it describes is accepted, what comes back is as it says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV30SpecValidator

from service import __version__
from service.config.settings import Settings
from service.transports.http.openapi import document as described
from tests.harness.openapi import follow, operations, validate


def parts(found: object, at: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict]]:
    """Every object within, with the keys that lead to it."""
    if isinstance(found, dict):
        yield at, found
        for key, value in found.items():
            if key not in ("example", "enum"):
                yield from parts(value, (*at, key))
    elif isinstance(found, list):
        for place, value in enumerate(found):
            yield from parts(value, (*at, str(place)))


KEY = "a-key-of-sixteen-characters"
KEYS = pytest.mark.parametrize("keys", [{}, {"api_keys": KEY}, {"admin_keys": KEY}], ids=str)


@KEYS
def test_linting(keys: dict[str, Any]) -> None:
    """The specification's own schema, and what the linters of docs/api.md ask for beyond it."""
    document = described(Settings(**keys))
    OpenAPIV30SpecValidator(document).validate()
    for at, part in parts(document):
        if "$ref" in part:
            assert set(part) == {"$ref"}, at
            assert follow(document, part), at
        if isinstance(required := part.get("required"), list):
            assert required, at
            assert set(required) <= set(part["properties"]), at
        for kind in ("oneOf", "anyOf", "allOf"):
            assert all("$ref" in each for each in part.get(kind, ())), at
        if "example" in part:
            validate(document, part["example"], part.get("schema", part))
    for kind, components in document["components"].items():
        for name in components:
            reference = {"$ref": f"#/components/{kind}/{name}"}
            used = any(part == reference for _, part in parts(document))
            assert used or kind == "securitySchemes", name
    info = document["info"]
    assert info["version"] == __version__
    assert info["contact"]["name"]
    assert info["license"]["name"] == "Apache-2.0"
    assert [server["url"] for server in document["servers"]] == ["."]


@KEYS
def test_linting_of_operations(keys: dict[str, Any]) -> None:
    document = described(Settings(**keys))
    tags = {tag["name"]: tag["description"] for tag in document["tags"]}
    every = list(operations(document))
    assert len({operation["operationId"] for operation in every}) == len(every)
    assert {tag for operation in every for tag in operation["tags"]} == set(tags)
    for operation in every:
        assert operation["operationId"].isidentifier()
        assert len(operation["tags"]) == 1
        assert operation["summary"]
        assert operation["description"]
        assert any(status.startswith("4") for status in operation["responses"])
        names = [(part["in"], part["name"]) for part in operation.get("parameters", ())]
        assert len(set(names)) == len(names)
        for schemes in {**document, **operation}["security"]:
            assert set(schemes) <= set(document["components"]["securitySchemes"])
    required, optional = [{"bearer": []}], [{}, {"bearer": []}]
    assert document["security"] == (required if "api_keys" in keys else optional)
    load = document["paths"]["/v2/repository/models/{name}/load"]["post"]
    assert load.get("security", document["security"]) == (required if keys else optional)
    assert ("401" in load["responses"]) == bool(keys)
