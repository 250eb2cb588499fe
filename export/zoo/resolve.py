"""From what a person calls a network to what is known about it."""

from __future__ import annotations

import fnmatch
import importlib
from collections.abc import Callable
from typing import cast

from export.errors import UnknownNetwork
from export.spec import Spec
from export.zoo import registry

LIBRARIES = {
    "timm": "export.zoo.timm_networks",
    "torchvision": "export.zoo.torchvision_networks",
}
"""By library the module that knows its networks; it imports the library, and PyTorch with it."""


def network(reference: str) -> Spec:
    """The network called ``reference``: of the zoo, or ``timm:ARCH[.TAG]``, ``torchvision:ARCH``.

    Raises UnknownNetwork, naming the nearest ones; ExportError for one that is no classifier.
    """
    library, colon, _ = reference.partition(":")
    if not colon:
        return registry.get(reference)
    if library not in LIBRARIES:
        raise UnknownNetwork(f"unknown library {library!r}: there are {', '.join(LIBRARIES)}")
    module = importlib.import_module(LIBRARIES[library])
    return cast(Callable[[str], Spec], module.spec)(reference)


def family(reference: str) -> str:
    """The family of a library's network, by its name alone."""
    library, _, name = reference.partition(":")
    module = importlib.import_module(LIBRARIES[library])
    return cast(Callable[[str], str], module.family_of)(name)


def names(library: str, pattern: str = "*") -> list[str]:
    """The classifiers of a library, without ``library:``, that match ``pattern`` (* and ?)."""
    module = importlib.import_module(LIBRARIES[library])
    return fnmatch.filter(cast(Callable[[], list[str]], module.names)(), pattern)
