"""Sort the nodes of a graph so that each stands behind those whose outputs it reads."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from onnx import GraphProto, NodeProto

from export.errors import ForeignModelRefused


def sort(graph: GraphProto) -> bool:
    """Put every node behind those whose outputs it reads, in subgraphs too, in place.

    Nodes that are in order stay as they are. Returns whether anything was moved. Raises
    ForeignModelRefused when nodes read each other's outputs in a circle.
    """
    moved = False
    for node in graph.node:
        for inner in subgraphs(node):
            moved |= sort(inner)
    order = _order(graph)
    if order == list(range(len(order))):
        return moved
    nodes = [NodeProto.FromString(graph.node[index].SerializeToString()) for index in order]
    del graph.node[:]
    graph.node.extend(nodes)
    return True


def subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    """Yield the graphs in the attributes of a node: bodies of Loop, branches of If."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _order(graph: GraphProto) -> list[int]:
    """Return the indices of the nodes, each behind what it reads, otherwise as they stand."""
    maker = {name: index for index, node in enumerate(graph.node) for name in node.output if name}
    readers: list[list[int]] = [[] for _ in graph.node]
    waits = [0] * len(graph.node)
    for index, node in enumerate(graph.node):
        makers = {maker[name] for name in _reads(node) if name in maker}
        waits[index] = len(makers)
        for made in makers:
            readers[made].append(index)
    ready = [index for index, count in enumerate(waits) if count == 0]
    order = []
    while ready:
        index = heapq.heappop(ready)
        order.append(index)
        for reader in readers[index]:
            waits[reader] -= 1
            if waits[reader] == 0:
                heapq.heappush(ready, reader)
    if len(order) < len(graph.node):
        stuck = next(index for index, count in enumerate(waits) if count)
        node = graph.node[stuck]
        raise ForeignModelRefused(
            f"its nodes wait for each other in a circle: see {node.name or node.op_type}"
        )
    return order


def _reads(node: NodeProto) -> set[str]:
    """Return the tensors of its own graph that a node reads, itself or in its subgraphs."""
    found = set(node.input)
    for inner in subgraphs(node):
        found |= _free(inner)
    return found


def _free(graph: GraphProto) -> set[str]:
    """Return the names that a subgraph reads from the graphs around it."""
    used = {value.name for value in graph.output}
    own = {named.name for named in (*graph.input, *graph.initializer)}
    for node in graph.node:
        used |= _reads(node)
        own.update(node.output)
    return used - own
