"""Read the weights that an ONNX file keeps in other files, from its own folder alone.

A location inside a model is text that somebody else wrote. It may name a plain file in or below
the folder of the ONNX file, and nothing else: no absolute path, no way upwards, no link.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto

from export.errors import ForeignModelRefused

MAX_BYTES = 2_000_000_000
"""Most bytes of an ONNX file with its weights: protobuf ends at 2 GiB, and ours is one file."""


def embed(model: ModelProto, folder: Path) -> tuple[Path, ...]:
    """Read every external tensor of ``model`` into it, in place, and return the files.

    Raises ForeignModelRefused when a location is not a plain file in or below ``folder``, when it
    is shorter than the tensor says, or when all is too large.
    """
    read: dict[Path, None] = {}
    total = model.ByteSize()
    for tensor in tensors(model):
        if tensor.data_location != TensorProto.EXTERNAL:
            continue
        said = {entry.key: entry.value for entry in tensor.external_data}
        file = _plain_file(folder, said.get("location", ""), tensor.name)
        size = file.stat().st_size
        offset = _number(said, "offset", 0, tensor.name)
        length = _number(said, "length", max(0, size - offset), tensor.name)
        if offset + length > size:
            raise ForeignModelRefused(
                f"{tensor.name} ends at byte {offset + length} of {file.name}, which has {size}"
            )
        total += length
        if total > MAX_BYTES:
            raise ForeignModelRefused(
                f"with its external data it has over {total} bytes, the limit is {MAX_BYTES}"
            )
        with file.open("rb") as stream:
            stream.seek(offset)
            tensor.raw_data = stream.read(length)
        tensor.data_location = TensorProto.DEFAULT
        del tensor.external_data[:]
        read[file] = None
    return tuple(read)


def tensors(model: ModelProto) -> Iterator[TensorProto]:
    """Yield every tensor of a model: initialisers and attributes, in subgraphs, in functions."""
    yield from _of_graph(model.graph)
    for function in model.functions:
        yield from _of_nodes(function.node)
    for training in model.training_info:
        yield from _of_graph(training.initialization)
        yield from _of_graph(training.algorithm)


def _of_graph(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _of_nodes(graph.node)


def _of_nodes(nodes: Iterator[NodeProto]) -> Iterator[TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            yield from _of_attribute(attribute)


def _of_attribute(attribute: AttributeProto) -> Iterator[TensorProto]:
    yield from (attribute.t, *attribute.tensors)
    for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
        yield from (sparse.values, sparse.indices)
    if attribute.HasField("g"):
        yield from _of_graph(attribute.g)
    for graph in attribute.graphs:
        yield from _of_graph(graph)


def _plain_file(folder: Path, location: str, tensor: str) -> Path:
    """Return the file that ``location`` names.

    Raises ForeignModelRefused unless every step to it is a plain folder, and it a plain file.
    """
    parts = PurePosixPath(location).parts
    if (
        not parts
        or "\0" in location
        or ".." in PureWindowsPath(location).parts
        or PurePosixPath(location).is_absolute()
        or PureWindowsPath(location).anchor
    ):
        raise ForeignModelRefused(
            f"{tensor} keeps its data in {location!r}: not a path inside the model's folder"
        )
    path = folder
    for part in parts:
        path = path / part
        try:
            mode = path.lstat().st_mode
        except OSError as error:
            raise ForeignModelRefused(
                f"{tensor} keeps its data in {location!r}: {error.strerror}"
            ) from error
        if stat.S_ISLNK(mode):
            raise ForeignModelRefused(f"{tensor} keeps its data in {location!r}: a link")
    if not stat.S_ISREG(mode):
        raise ForeignModelRefused(f"{tensor} keeps its data in {location!r}: no plain file")
    return path


def _number(said: dict[str, str], key: str, default: int, tensor: str) -> int:
    text = said.get(key)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise ForeignModelRefused(f"{tensor} has external data of {key} {text[:40]!r}")
    return int(text)
