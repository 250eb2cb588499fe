"""deploy/kserve, read by the models that KServe generates from its own OpenAPI document."""

from __future__ import annotations

import copy
import re
from typing import Any

import kserve
import kubernetes.client
import pytest
import yaml

from tests.paths import ROOT

FOLDER = ROOT / "deploy" / "kserve"
KINDS = {
    "ServingRuntime": "V1alpha1ServingRuntime",
    "InferenceService": "V1beta1InferenceService",
}
SCALARS: dict[str, type | tuple[type, ...]] = {
    "str": str,
    "int": int,
    "bool": bool,
    "float": (int, float),
    "object": object,
    "IntOrString": (int, str),
    "ResourceQuantity": (int, str),
}


def _documents() -> list[dict[str, Any]]:
    return [
        document
        for path in sorted(FOLDER.glob("*.yaml"))
        for document in yaml.safe_load_all(path.read_text())
    ]


def _check(value: Any, kind: str, place: str) -> None:
    """Raise ValueError where a field does not exist, is of another type, or a needed one lacks."""
    if (inner := re.fullmatch(r"[Ll]ist\[(.+)\]", kind)) is not None:
        if not isinstance(value, list):
            raise ValueError(f"{place} is no list")
        for number, each in enumerate(value):
            _check(each, inner[1], f"{place}[{number}]")
    elif (inner := re.fullmatch(r"[Dd]ict[(\[]str, (.+)[)\]]", kind)) is not None:
        if not isinstance(value, dict):
            raise ValueError(f"{place} is no object")
        for name, each in value.items():
            _check(each, inner[1], f"{place}.{name}")
    elif kind in SCALARS:
        if not isinstance(value, SCALARS[kind]) or (kind == "int" and isinstance(value, bool)):
            raise ValueError(f"{place} is no {kind}: {value!r}")
    else:
        _check_object(value, kind, place)


def _check_object(value: Any, kind: str, place: str) -> None:
    model = getattr(kserve, kind, None) or getattr(kubernetes.client, kind)
    fields = {key: name for name, key in model.attribute_map.items()}
    if not isinstance(value, dict):
        raise ValueError(f"{place} is no object")
    for key, each in value.items():
        if key not in fields:
            raise ValueError(f"{place}.{key}: {kind} has no such field")
        _check(each, model.openapi_types[fields[key]], f"{place}.{key}")
    # what is missing and needed, the model says itself
    model(**{fields[key]: each for key, each in value.items()})


@pytest.mark.parametrize("document", _documents(), ids=lambda d: str(d["metadata"]["name"]))
def test_manifests_keep_kserves_schema(document: dict[str, Any]) -> None:
    _check(document, KINDS[document["kind"]], document["kind"])


def test_what_does_not_keep_it_is_seen() -> None:
    (runtime, *_) = (each for each in _documents() if each["kind"] == "ServingRuntime")
    for path, value in {
        ("protocolVersion",): ["v2"],
        ("multiModel",): "no",
        ("containers", 0, "readynessProbe"): {},
        ("containers", 0, "name"): None,
    }.items():
        broken = copy.deepcopy(runtime["spec"])
        at: Any = broken
        for step in path[:-1]:
            at = at[step]
        at[path[-1]] = value
        with pytest.raises(ValueError, match=str(path[-1])):
            _check({**runtime, "spec": broken}, KINDS["ServingRuntime"], "ServingRuntime")
