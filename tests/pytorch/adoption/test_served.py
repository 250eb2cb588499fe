from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.transformers.float16 import convert_float_to_float16

from models import REPOSITORY
from tests.photographs import CHELSEA, CHINA, COFFEE, FLOWER
from tests.pytorch.adoption.test_pictures import names, narrow
from tests.pytorch.conftest import Command
from tests.pytorch.foreign_files import caffe, caffe_like, reference
from tests.server import serving


def stripped(file: Path, *ends: tuple[str, str]) -> Path:
    """EfficientNet-Lite0 as others export it: floats [N, 3, 224, 224] in, scores out.

    ``ends`` are operators behind its logits, each with the name of its output.
    """
    model = onnx.load(REPOSITORY / "efficientnet_lite0" / "1" / "model.onnx")
    graph = model.graph
    first = next(index for index, node in enumerate(graph.node) if node.op_type == "Conv")
    crops = graph.node[first].input[0]
    assert graph.node[-1].op_type == "Softmax"
    nodes = list(graph.node[first:-1])
    output = "logits"
    for operator, name in ends:
        more = ["hundred"] if operator == "Mul" else []
        nodes.append(helper.make_node(operator, [output, *more], [name]))
        output = name
    del graph.node[:], graph.input[:], graph.output[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.append(numpy_helper.from_array(np.array([100], np.float32), "hundred"))
    graph.input.append(helper.make_tensor_value_info(crops, TensorProto.FLOAT, ["N", 3, 224, 224]))
    graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, ["N", 1000]))
    onnx.save(model, file)
    return file


def test_a_trained_network_with_a_sigmoid_is_refused(export: Command, tmp_path: Path) -> None:
    file = stripped(tmp_path / "multi.onnx", ("Sigmoid", "shares"))
    outcome = export(
        *("adopt", file, "--name", "multi", "--preset", "timm-inception"),
        *("--activation", "softmax", "--output", tmp_path / "models"),
    )
    assert outcome.code == 2
    assert "it ends in Sigmoid: its classes do not exclude each other" in outcome.error


def test_a_trained_network_adopted_in_other_forms_answers_the_same(
    export: Command, tmp_path: Path
) -> None:
    models = tmp_path / "models"
    shutil.copytree(REPOSITORY / "efficientnet_lite0", models / "efficientnet_lite0")
    stripped(tmp_path / "percent.onnx", ("Softmax", "p"), ("Mul", "percent"))
    single = onnx.load(stripped(tmp_path / "single.onnx"))
    onnx.save(convert_float_to_float16(single, keep_io_types=True), tmp_path / "half.onnx")
    some = tmp_path / "some"
    some.mkdir()
    for photograph in (CHELSEA, CHINA, COFFEE, FLOWER):
        shutil.copy(photograph, some)
    for name in ("percent", "half"):
        outcome = export(
            *("adopt", tmp_path / f"{name}.onnx", "--name", name, "--preset", "timm-inception"),
            *("--protocols", "center", "--pictures", some, "--output", models),
        )
        assert (outcome.code, outcome.err) == (0, "")
    few = narrow(tmp_path / "few.onnx", 600)
    outcome = export(
        *("adopt", few, "--name", "few", "--preset", "torchvision", "--protocols", "center"),
        *("--labels", names(tmp_path), "--activation", "softmax", "--output", models),
    )
    assert (outcome.code, outcome.err) == (0, "")
    with serving(tmp_path, zoo_models=models) as server:
        for photograph in (CHELSEA, CHINA, FLOWER):
            ours = server.classify(photograph).json()["predictions"]
            for name, allowed in (("percent", 1e-4), ("half", 0.02)):
                theirs = server.classify(photograph, model=name).json()["predictions"]
                assert theirs[0]["label"] == ours[0]["label"]
                assert abs(theirs[0]["probability"] - ours[0]["probability"]) <= allowed
        record = server.client.get("/models/few").json()["manifest"]["verification"]
    assert any("16 pictures have only 1 different top fives" in line for line in record["remarks"])


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
