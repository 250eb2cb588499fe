"""Describe the peers: what each needs, how it is asked and how its answer is read."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from loadtests.clients import client

PIPELINE = ("numpy>=1.26", "onnxruntime>=1.23", "pillow>=12.3")
"""Requirements of classifier.py in every environment."""


def first_class(body: bytes) -> int:
    """Read the most probable class of ``{"predictions": [{"index": …}, …]}``, or a list of one."""
    answer = json.loads(body)
    if isinstance(answer, list):
        (answer,) = answer
    return int(answer["predictions"][0]["index"])


def triton_request(picture: bytes, model: str = "classifier") -> bytes:
    """Return a request of Triton's HTTP API with the picture in binary form, not in JSON.

    A BYTES tensor of shape [1, 1] in the binary form of the "binary tensor data" extension: each
    element is its length as four bytes, little-endian, and then its bytes.
    """
    tensor = len(picture).to_bytes(4, "little") + picture
    described = {
        "name": "picture",
        "shape": [1, 1],
        "datatype": "BYTES",
        "parameters": {"binary_data_size": len(tensor)},
    }
    head = json.dumps({"inputs": [described]}).encode()
    return client.request(
        f"/v2/models/{model}/infer",
        "application/octet-stream",
        head + tensor,
        f"Inference-Header-Content-Length: {len(head)}\r\n",
    )


def triton_first_class(body: bytes) -> int:
    """Read the most probable class of Triton's answer: the first element of "index"."""
    outputs = {each["name"]: each["data"] for each in json.loads(body)["outputs"]}
    return int(outputs["index"][0])


@dataclass(frozen=True)
class Peer:
    """Another way to serve the network. Its server is ``servers/<name>_server.py``."""

    name: str
    package: str
    requirements: tuple[str, ...]
    """Besides ``PIPELINE``; the lower bounds are the versions that it was tried with."""
    request: Callable[[bytes], bytes]
    """JPEG -> a whole HTTP request."""
    first_class: Callable[[bytes], int] = first_class

    @property
    def module(self) -> str:
        """The module that starts its server: ``python -m <module>``."""
        return f"loadtests.peers.servers.{self.name}_server"


PEERS = {
    peer.name: peer
    for peer in (
        Peer(
            "litserve",
            "litserve",
            (
                *("litserve>=0.2.19", "python-multipart>=0.0.34"),
                *("httptools>=0.9", "uvloop>=0.23"),
            ),
            partial(client.multipart, path="/predict", field_name="content"),
        ),
        Peer("mosec", "mosec", ("mosec>=0.9.8",), partial(client.raw, path="/inference")),
        Peer(
            "pytriton",
            "nvidia-pytriton",
            ("nvidia-pytriton>=0.7.0", "numpy<2"),
            triton_request,
            triton_first_class,
        ),
        Peer("bentoml", "bentoml", ("bentoml>=1.4.39",), client.multipart),
        Peer(
            "starlette",
            "starlette",
            ("starlette>=1.3.1", "uvicorn>=0.54", "httptools>=0.9", "uvloop>=0.23"),
            client.raw,
        ),
    )
}
