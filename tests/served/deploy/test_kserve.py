"""deploy/kserve beside the service; tests/clients/kserve holds it to the SDK's own models."""

from __future__ import annotations

import yaml

from tests.harness.rendered import KSERVE
from tests.server import Server


def test_clients_name_a_model_as_the_page_says(server: Server) -> None:
    text = (KSERVE / "inference-service.yaml").read_text()
    (first, *_) = yaml.safe_load_all(text)
    (name,) = (each["value"] for each in first["spec"]["predictor"]["model"]["env"])
    assert f"/v2/models/{name}/infer" in text
    assert server.client.get(f"/v2/models/{name}").status_code == 200
