"""Loading and unloading by clients: closed, as it is unless the operator opens it."""

from __future__ import annotations

import pytest
from tritonclient.utils import InferenceServerException

from tests.clients.triton.conftest import Triton
from tests.clients.triton.test_both import LITE, status


@pytest.mark.parametrize("model", [LITE, f"{LITE}.tensor", "lenet5", "nothing"])
def test_models_come_and_go_only_by_the_operator(triton: Triton, model: str) -> None:
    for change in (triton.client.load_model, triton.client.unload_model):
        with pytest.raises(InferenceServerException) as refused:
            change(model)
        assert refused.value.status() == status(403, "PERMISSION_DENIED", triton)
    assert triton.client.is_model_ready(LITE)
    assert triton.client.is_model_ready("lenet5")


def test_the_index_is_the_operator_s(triton: Triton) -> None:
    with pytest.raises(InferenceServerException, match="management is closed") as refused:
        triton.client.get_model_repository_index()
    assert refused.value.status() == status(403, "PERMISSION_DENIED", triton)


def test_no_file_can_be_sent(triton: Triton) -> None:
    with pytest.raises(InferenceServerException) as refused:
        triton.client.load_model("mine", config="{}", files={"file:1/model.onnx": b"graph"})
    assert refused.value.status() in (
        status(400, "INVALID_ARGUMENT", triton),
        status(403, "PERMISSION_DENIED", triton),
    )
    assert not any(model == "mine" for model in served(triton))


def served(triton: Triton) -> set[str]:
    """The models that have statistics."""
    return {of["name"] for of in triton.described("inference_statistics")["model_stats"]}
