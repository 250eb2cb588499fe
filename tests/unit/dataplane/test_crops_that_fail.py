"""Ready-made crops that a network has no number for: none of the request is answered."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from loadtests.harness import marked
from service.dataplane.dataplane import DataPlane
from service.dataplane.query import Query
from service.errors import Internal
from service.manifest import sha256_of
from tests.harness.planes import started


def undefined_for_black(folder: Path) -> None:
    """Change a version so that the probabilities of a black crop are no numbers."""
    path = folder / "model.onnx"
    model = onnx.load(path)
    graph = model.graph
    (last,) = (node for node in graph.node if "probabilities" in node.output)
    last.output[:] = ["defined" if name == "probabilities" else name for name in last.output]
    axes = helper.make_tensor("axes", TensorProto.INT64, [3], [1, 2, 3])
    graph.initializer.append(axes)
    graph.node.extend(
        [
            helper.make_node("Cast", ["pixels"], ["wide"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMax", ["wide", "axes"], ["brightest"], keepdims=0),
            helper.make_node("Div", ["brightest", "brightest"], ["one"]),
            helper.make_node("Unsqueeze", ["one", "last"], ["ones"]),
            helper.make_node("Mul", ["defined", "ones"], ["probabilities"]),
        ]
    )
    graph.initializer.append(helper.make_tensor("last", TensorProto.INT64, [1], [1]))
    onnx.save(model, path)
    manifest = json.loads((folder / "manifest.json").read_text())
    for file in manifest["files"]:
        if file["path"] == "model.onnx":
            file.update(bytes=path.stat().st_size, sha256=sha256_of(path))
    (folder / "manifest.json").write_text(json.dumps(manifest))


async def infer(plane: DataPlane, *levels: int) -> np.ndarray:
    """The probabilities of crops of one gray level each."""
    shape = (await plane.model("default", None)).single_network.manifest.input
    crop = (shape.height, shape.width, shape.channels)
    crops = np.stack([np.full(crop, level, np.uint8) for level in levels])
    answer = await plane.infer(crops, Query("default"), transport="test", deadline=math.inf)
    return answer.outputs.probabilities


async def test_one_crop_without_a_number_fails_the_request(tmp_path: Path) -> None:
    undefined_for_black(marked.add(tmp_path, "default", 1))
    async with started(tmp_path) as plane:
        assert np.isfinite(await infer(plane, 200, 100)).all()
        for levels in ((0,), (100, 0), (0, 100), (100, 0, 100)):
            with pytest.raises(Internal, match="no finite probabilities for these crops"):
                await infer(plane, *levels)
        assert np.isfinite(await infer(plane, 1, 255)).all()
        assert plane.admission.in_use == 0
