from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.export.conftest import Command
from tests.export.foreign_files import caffe, caffe_like, reference
from tests.photographs import CHELSEA, CHINA, FLOWER
from tests.server import serving


def test_the_service_answers_as_the_file_does(export: Command, tmp_path: Path) -> None:
    file = caffe_like(tmp_path / "bvlc.onnx", 9)
    model = onnx.load(file)  # and an output more, as files of TensorFlow have
    model.graph.node.append(helper.make_node("ArgMax", ["prob_1"], ["best"], axis=1, keepdims=0))
    model.graph.output.insert(0, helper.make_tensor_value_info("best", TensorProto.INT64, [1]))
    onnx.save(model, tmp_path / "two.onnx")
    models = tmp_path / "models"
    outcome = export(
        *("adopt", tmp_path / "two.onnx", "--name", "bvlc", "--preset", "caffe", "--resize", 74),
        *("--take", "prob_1", "--output", models),
    )
    assert (outcome.code, outcome.err) == (0, "")
    with serving(tmp_path, zoo_models=models, zoo_default_model="bvlc") as server:
        for photograph in (CHELSEA, CHINA, FLOWER):
            answer = server.classify(photograph).json()
            expected = reference(file, photograph.read_bytes(), caffe)[0]
            best = np.argsort(-expected, kind="stable")[:5]
            assert [one["index"] for one in answer["predictions"]] == best.tolist()
            for one in answer["predictions"]:
                assert abs(one["probability"] - expected[one["index"]]) <= 1e-4
        ten = server.classify(CHELSEA, protocol="ten_crop")
        assert ten.status_code == 200
        described = server.client.get("/models/bvlc").json()
    assert described["name"] == "bvlc"
