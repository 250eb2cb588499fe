"""What the service answers over HTTP equals PyTorch behind torchvision's own transforms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from export.proof.reference import Reference
from export.weights import files
from export.zoo import registry
from service.manifest import ProtocolName
from tests.photographs import PHOTOGRAPHS
from tests.server import Server

TOLERANCE = 1e-3


@pytest.fixture(scope="module")
def lite0() -> Reference:
    spec = registry.get("efficientnet_lite0")
    return Reference(spec, files.load(spec, None).network)


@pytest.mark.parametrize("protocol", ["center", "ten_crop"])
@pytest.mark.parametrize("path", PHOTOGRAPHS, ids=lambda path: path.name)
def test_probabilities_of_photographs(
    server: Server, lite0: Reference, path: Path, protocol: ProtocolName
) -> None:
    picture = path.read_bytes()
    logits = torch.from_numpy(lite0.logits(picture, protocol))
    assert len(logits) == (10 if protocol == "ten_crop" else 1)
    expected = logits.softmax(dim=1).mean(dim=0).numpy()
    answer = server.classify(picture, protocol=protocol, top_k=1000, exif="ignore").json()
    served = np.zeros(1000)
    for prediction in answer["predictions"]:
        served[prediction["index"]] = prediction["probability"]
    np.testing.assert_allclose(served, expected, atol=TOLERANCE)
