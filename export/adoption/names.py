"""List and change the names of the tensors of a graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set

from onnx import GraphProto

from export.adoption.order import subgraphs


def names_of(graph: GraphProto) -> Iterator[str]:
    """Yield every name of a tensor in a graph and in its subgraphs, some several times."""
    for named in (*graph.initializer, *graph.input, *graph.output, *graph.value_info):
        yield named.name
    for node in graph.node:
        yield from node.input
        yield from node.output
        for inner in subgraphs(node):
            yield from names_of(inner)


def free_prefix(word: str, taken: Set[str]) -> str:
    """Return ``word/``, ``word_2/`` and so on: the first prefix that none of the names has."""
    prefix, number = f"{word}/", 1
    while any(name.startswith(prefix) for name in taken):
        number += 1
        prefix = f"{word}_{number}/"
    return prefix


def rename(graph: GraphProto, names: Mapping[str, str]) -> None:
    """Give tensors other names, in subgraphs too, in place."""
    for node in graph.node:
        for side in (node.input, node.output):
            for index, name in enumerate(side):
                if name in names:
                    side[index] = names[name]
        for inner in subgraphs(node):
            rename(inner, names)
    for named in (*graph.initializer, *graph.input, *graph.output, *graph.value_info):
        named.name = names.get(named.name, named.name)
