"""The registry of networks: a decorator puts a network next to what is known about it.

Each file in ``export/zoo/families`` holds one family. Adding a network touches one such file
alone: it declares the facts and a function that builds the PyTorch module. Nothing heavy is
imported until that function is called, so ``python -m export list`` is quick.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from export.errors import UnknownNetwork
from export.spec import Builder, Conversion, LabelSet, Library, Spec, WeightsSource
from service.manifest import Input, Paper, Protocols, PublishedError, Resize

if TYPE_CHECKING:
    from torch import nn


def dense_form(name: str) -> Conversion:
    """The conversion of this name in export/graph/dense.py, which is imported when it is called."""

    def convert(network: nn.Module) -> nn.Module:
        converted: nn.Module = getattr(importlib.import_module("export.graph.dense"), name)(network)
        return converted

    return convert


_SPECS: dict[str, Spec] = {}


def register(
    *,
    name: str,
    network: str,
    family: str,
    year: int,
    paper: Paper,
    source: Library,
    parameters: int,
    multiply_adds: int,
    input: Input,  # noqa: A002
    resize: Resize,
    protocols: Protocols,
    weights: WeightsSource,
    published: tuple[PublishedError, ...] = (),
    classes: int = 1000,
    labels: LabelSet = "imagenet",
    training_only: tuple[str, ...] = (),
    mean_image: bool = False,
    dense: Conversion | None = None,
    peers: tuple[str, ...] = (),
) -> Callable[[Builder], Builder]:
    """Register the decorated function as the builder of network ``name``.

    Raises ValueError when the name is taken, or when one of the protocol ``dense`` and the
    conversion for it is there without the other.
    """
    if ("dense" in protocols.names) != (dense is not None):
        raise ValueError(f"{name} has the protocol dense without its conversion, or the reverse")

    def decorate(build: Builder) -> Builder:
        if name in _SPECS:
            raise ValueError(f"{name} is registered twice")
        _SPECS[name] = Spec(
            name=name,
            network=network,
            family=family,
            year=year,
            paper=paper,
            source=source,
            parameters=parameters,
            multiply_adds=multiply_adds,
            input=input,
            resize=resize,
            protocols=protocols,
            classes=classes,
            labels=labels,
            weights=weights,
            published=published,
            builder=build,
            reference=name,
            training_only=training_only,
            mean_image=mean_image,
            dense=dense,
            peers=peers,
        )
        return build

    return decorate


def specs() -> list[Spec]:
    """Every registered network: by year, then by name."""
    families = importlib.import_module("export.zoo.families")
    for module in pkgutil.iter_modules(families.__path__):
        importlib.import_module(f"{families.__name__}.{module.name}")
    return sorted(_SPECS.values(), key=lambda spec: (spec.year or 0, spec.name))


def get(name: str) -> Spec:
    """The network of this name. Raises UnknownNetwork, naming the nearest ones."""
    known = {spec.name: spec for spec in specs()}
    if name in known:
        return known[name]
    hint = near(name, known) or ": see python -m export list"
    raise UnknownNetwork(f"unknown model {name!r}{hint}")


def near(name: str, known: Iterable[str]) -> str:
    """``: did you mean …?`` with the nearest of the names that are known, or nothing."""
    found = difflib.get_close_matches(name, list(known), n=3, cutoff=0.7)
    return f": did you mean {' or '.join(found)}?" if found else ""
