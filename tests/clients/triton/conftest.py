"""tritonclient over both transports, which its users see as one interface."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http

from tests.server import Server


@dataclass(frozen=True)
class Triton:
    """One of tritonclient's modules, and a client of it."""

    transport: str
    module: ModuleType
    client: Any

    def images(self, *pictures: bytes) -> Any:
        """The input of NAME, in binary."""
        return self.tensor("image", "BYTES", np.array(pictures, dtype=object))

    def images_in_json(self, *pictures: bytes) -> Any:
        """The same as JSON has it: in base64."""
        given = self.module.InferInput("image", [len(pictures)], "BYTES")
        texts = [base64.b64encode(picture) for picture in pictures]
        return given.set_data_from_numpy(np.array(texts, dtype=object), binary_data=False)

    def pixels(self, crops: np.ndarray) -> Any:
        """The input of NAME.tensor, in binary."""
        return self.tensor("pixels", "UINT8", np.ascontiguousarray(crops))

    def tensor(self, name: str, datatype: str, values: np.ndarray) -> Any:
        """Any input, in binary."""
        given = self.module.InferInput(name, list(values.shape), datatype)
        return given.set_data_from_numpy(values)

    def described(self, what: str, *arguments: str) -> Any:
        """What ``get_`` and this say, as JSON has it."""
        as_json = {} if self.transport == "http" else {"as_json": True}
        return getattr(self.client, f"get_{what}")(*arguments, **as_json)


@pytest.fixture(scope="module")
def over_http(server: Server) -> Iterator[Triton]:
    address = server.url.removeprefix("http://")
    with tritonclient.http.InferenceServerClient(address, network_timeout=120) as client:
        yield Triton("http", tritonclient.http, client)


@pytest.fixture(scope="module")
def over_grpc(server: Server) -> Iterator[Triton]:
    with tritonclient.grpc.InferenceServerClient(server.grpc_address) as client:
        yield Triton("grpc", tritonclient.grpc, client)


@pytest.fixture(params=["http", "grpc"])
def triton(request: pytest.FixtureRequest) -> Triton:
    return request.getfixturevalue(f"over_{request.param}")
