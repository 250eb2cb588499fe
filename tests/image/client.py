"""Asks a service on this machine's own ports, by every way: run inside a container's network.

python -m tests.image.client [MODEL]
"""

from __future__ import annotations

import sys

import grpc
import httpx

from service.transports.grpc.protos import classifier_pb2, classifier_pb2_grpc
from tests.photographs import COFFEE

HTTP = "http://127.0.0.1:3000"
GRPC = "127.0.0.1:3001"


def ask(model: str) -> None:
    """One picture over HTTP and gRPC, the page of the API, the list of the models."""
    with httpx.Client(base_url=HTTP, timeout=30) as client:
        query = {"model": model} if model else {}
        answer = client.post("/classify", content=COFFEE.read_bytes(), params=query)
        top = answer.raise_for_status().json()["predictions"][0]
        models = client.get("/models").raise_for_status().json()["models"]
        client.get("/docs").raise_for_status()
        client.get("/docs/static/swagger-ui.css").raise_for_status()
        client.get("/metrics").raise_for_status()
    with grpc.insecure_channel(GRPC) as channel:
        stub = classifier_pb2_grpc.ClassifierStub(channel)
        request = classifier_pb2.ClassifyRequest(images=[COFFEE.read_bytes()], model=model)
        same = stub.Classify(request, timeout=30).results[0].classification.predictions[0]
    assert same.label == top["label"], (same, top)
    assert model or top["label"] == "espresso", top
    print(f"{top['label']} {top['probability']:.4f} over HTTP and gRPC; {len(models)} models")


if __name__ == "__main__":
    ask(*(sys.argv[1:] or [""]))
