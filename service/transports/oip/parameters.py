"""Reads and checks the parameters of a request, of its inputs and of its outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias, cast

from service.errors import BadParameter
from service.imaging.decode import Exif
from service.transports.oip.codecs import BASE64, check_content
from service.transports.oip.faces import SUFFIXES, Kind

Value: TypeAlias = "bool | int | float | str"

_MOST_TEXT = 64
MOST_PARAMETERS = 64
_OF_ALL = ("timeout", "binary_data_output", "triton_enable_empty_final_response", "content_type")
_OF_KIND: dict[Kind, tuple[str, ...]] = {
    "image": ("protocol", "exif"),
    "topk": ("protocol", "exif", "top_k"),
    "tensor": (),
}
HINTS = ("priority", "sequence_id", "sequence_start", "sequence_end")
"""Accepted and ignored, as Triton does for a model that has neither priorities nor a state."""
_OF_INPUTS = ("binary_data_size", "content_type")
_OF_OUTPUTS = ("binary_data", "classification", "content_type")


@dataclass(frozen=True, slots=True)
class Options:
    """What a request asks for besides its tensors; None stands for the default."""

    protocol: str | None = None
    top_k: int | None = None
    exif: Exif = "apply"
    timeout_s: float | None = None
    binary: bool = False
    """Over REST: whether outputs come in binary whose parameters do not say it."""
    final_response: bool = False
    """In a stream: whether the answer is marked as the last one of its request."""


@dataclass(frozen=True, slots=True)
class RequestedOutput:
    """An output that a request names."""

    name: str
    classification: int | None = None
    """How many of the best classes to answer as text in place of the values; None: the values."""
    binary: bool | None = None


def options(parameters: Mapping[str, Value], kind: Kind) -> Options:
    """Read the parameters of a request to a face of this kind.

    Raises BadParameter for an unknown parameter or a value that is not allowed.
    """
    if "top_k" in parameters and kind != "topk":
        raise BadParameter(f"top_k goes with NAME{SUFFIXES['topk']}, which gives the best classes")
    _check_names(parameters, (*_OF_KIND[kind], *_OF_ALL, *HINTS), "the request")
    for hint in HINTS:
        if hint in parameters and isinstance(parameters[hint], float):
            raise BadParameter(f"{hint} is a whole number, a text or a boolean")
    protocol = _text(parameters, "protocol")
    exif = _text(parameters, "exif") or "apply"
    if exif not in ("apply", "ignore"):
        raise BadParameter(f"exif is {exif!r}, it can be 'apply' or 'ignore'")
    timeout_us = _integer(parameters, "timeout", 0)
    return Options(
        protocol=protocol,
        top_k=_integer(parameters, "top_k", 1),
        exif=cast(Exif, exif),
        timeout_s=timeout_us / 1e6 if timeout_us else None,
        binary=_boolean(parameters, "binary_data_output") or False,
        final_response=_boolean(parameters, "triton_enable_empty_final_response") or False,
    )


def binary_size(name: str, parameters: Mapping[str, Value]) -> int | None:
    """Return how many bytes of binary data an input has; None: it has none. Raises BadParameter."""
    _check_names(parameters, _OF_INPUTS, f"the input {name[:64]!r}")
    return _integer(parameters, "binary_data_size", 0)


def content_type(
    owner: str,
    parameters: Mapping[str, Value],
    datatype: str | None = None,
    default: str | None = None,
) -> str | None:
    """Return the parameter `content_type`, by which MLServer's clients describe elements.

    ``owner`` names in an error what has the parameters, ``datatype`` is that of the tensor, or
    None for a request as a whole. ``default`` stands in where the parameter is missing. Raises
    BadParameter.
    """
    found = _text(parameters, "content_type") or default
    check_content(owner, datatype, found)
    return found


def requested_output(name: str, parameters: Mapping[str, Value]) -> RequestedOutput:
    """Read a requested output's parameters. Raises BadParameter."""
    _check_names(parameters, _OF_OUTPUTS, f"the output {name[:64]!r}")
    if content_type(f"the output {name[:64]!r}", parameters) == BASE64:
        raise BadParameter(f"no output is {BASE64}: texts come as they are")
    classes = _integer(parameters, "classification", 0)
    return RequestedOutput(name, classes or None, _boolean(parameters, "binary_data"))


def _check_names(parameters: Mapping[str, Value], known: tuple[str, ...], owner: str) -> None:
    for name in parameters:
        if name.startswith("shared_memory_"):
            raise BadParameter("shared memory is not offered: send the data itself")
        if name not in known:
            raise BadParameter(
                f"{owner} has no parameter {name[:64]!r}; there are: {', '.join(known)}"
            )


def _text(parameters: Mapping[str, Value], name: str) -> str | None:
    value = parameters.get(name)
    if value is not None and not (isinstance(value, str) and 1 <= len(value) <= _MOST_TEXT):
        raise BadParameter(f"{name} must be a text of 1 to {_MOST_TEXT} characters")
    return value


def _integer(parameters: Mapping[str, Value], name: str, least: int) -> int | None:
    value = parameters.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value < 2**63:
        raise BadParameter(f"{name} must be a whole number from {least} on")
    return value


def _boolean(parameters: Mapping[str, Value], name: str) -> bool | None:
    value = parameters.get(name)
    if value is not None and not isinstance(value, bool):
        raise BadParameter(f"{name} must be a boolean")
    return value
