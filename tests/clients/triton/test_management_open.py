"""Loading, unloading and the index, where the operator sets ZOO_MANAGEMENT."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tritonclient.utils import InferenceServerException

from tests.clients.conftest import PYTHON
from tests.clients.triton.conftest import Triton
from tests.clients.triton.test_both import LITE, status
from tests.server import Server, serving


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """With two workers: each request may meet another, and all must have followed."""
    folder = tmp_path_factory.mktemp("open")
    with serving(folder, python=PYTHON, zoo_management=True, zoo_workers=2) as running:
        running.logged("gRPC on", times=2, seconds=60)
        yield running


def index(triton: Triton) -> dict[str, dict[str, Any]]:
    """The repository, by the name of a face."""
    found = triton.described("model_repository_index")
    return {
        each["name"]: each for each in (found if triton.transport == "http" else found["models"])
    }


def test_the_index_lists_both_faces(triton: Triton) -> None:
    found = index(triton)
    faces = ("", ".tensor", ".topk")
    assert set(found) == {model + face for model in (LITE, "lenet5") for face in faces}
    for each in found.values():
        assert (each["version"], each["state"]) == ("1", "READY")


def test_a_model_goes_and_comes_back(triton: Triton, pictures: dict[str, bytes]) -> None:
    asked = [triton.images(pictures["seven"])]
    triton.client.unload_model("lenet5")
    for _ in range(6):
        assert not triton.client.is_model_ready("lenet5")
        assert not triton.client.is_model_ready("lenet5.tensor")
        assert index(triton)["lenet5"]["state"] == "UNAVAILABLE"
        with pytest.raises(InferenceServerException) as gone:
            triton.client.infer("lenet5", asked)
        assert gone.value.status() == status(503, "UNAVAILABLE", triton)
    triton.client.load_model("lenet5")
    for _ in range(6):
        assert triton.client.is_model_ready("lenet5")
        assert triton.client.infer("lenet5", asked).as_numpy("probabilities").argmax() == 7


def test_either_face_s_name_does(triton: Triton) -> None:
    triton.client.unload_model("lenet5.tensor")
    assert not triton.client.is_model_ready("lenet5")
    triton.client.load_model("lenet5.tensor")
    assert triton.client.is_model_ready("lenet5")


def test_what_is_not_there_cannot_be_loaded(triton: Triton) -> None:
    for change in (triton.client.load_model, triton.client.unload_model):
        with pytest.raises(InferenceServerException) as refused:
            change("nothing")
        assert refused.value.status() == status(404, "NOT_FOUND", triton)


def test_a_configuration_cannot_be_given(triton: Triton) -> None:
    with pytest.raises(InferenceServerException, match="config") as refused:
        triton.client.load_model("lenet5", config='{"max_batch_size": 1}')
    assert refused.value.status() == status(400, "INVALID_ARGUMENT", triton)
    assert triton.client.is_model_ready("lenet5")


def test_the_default_model_stays(triton: Triton) -> None:
    with pytest.raises(InferenceServerException, match=LITE) as refused:
        triton.client.unload_model(LITE)
    assert refused.value.status() == status(400, "INVALID_ARGUMENT", triton)
    assert triton.client.is_model_ready(LITE)
