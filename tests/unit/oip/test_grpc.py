"""The Open Inference Protocol over gRPC, on a real server with real pictures."""

from __future__ import annotations

import pytest

from service.transports.grpc.protos import oip_pb2 as messages
from tests.paths import ROOT

# the public numbers: KServe's open_inference_grpc.proto, Triton's grpc_service.proto
NUMBERS = {
    "ModelInferRequest": {
        "model_name": 1,
        "model_version": 2,
        "id": 3,
        "parameters": 4,
        "inputs": 5,
        "outputs": 6,
        "raw_input_contents": 7,
    },
    "ModelInferResponse": {
        "model_name": 1,
        "model_version": 2,
        "id": 3,
        "parameters": 4,
        "outputs": 5,
        "raw_output_contents": 6,
    },
    "InferParameter": {
        "bool_param": 1,
        "int64_param": 2,
        "string_param": 3,
        "double_param": 4,
        "uint64_param": 5,
    },
    "InferTensorContents": {
        "bool_contents": 1,
        "int_contents": 2,
        "int64_contents": 3,
        "uint_contents": 4,
        "uint64_contents": 5,
        "fp32_contents": 6,
        "fp64_contents": 7,
        "bytes_contents": 8,
    },
    "ModelMetadataResponse": {
        "name": 1,
        "versions": 2,
        "platform": 3,
        "inputs": 4,
        "outputs": 5,
    },
    "ModelStreamInferResponse": {"error_message": 1, "infer_response": 2},
    "ModelStatistics": {
        "name": 1,
        "version": 2,
        "last_inference": 3,
        "inference_count": 4,
        "execution_count": 5,
        "inference_stats": 6,
        "batch_stats": 7,
    },
    "RepositoryModelLoadRequest": {"repository_name": 1, "model_name": 2, "parameters": 3},
}


@pytest.mark.parametrize("name", NUMBERS)
def test_messages_have_the_public_numbers(name: str) -> None:
    fields = messages.DESCRIPTOR.message_types_by_name[name].fields
    assert {field.name: field.number for field in fields} == NUMBERS[name]


def test_the_page_tells_of_every_call() -> None:
    text = (ROOT / "docs" / "oip.md").read_text()
    for method in messages.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods:
        assert f"`{method.name}`" in text
