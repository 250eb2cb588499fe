"""deploy/kserve beside the service; tests/clients/kserve holds it to the SDK's own models."""

from __future__ import annotations

import kubernetes_validate
import pytest

from service.config.settings import PREFIX, Settings
from tests.harness.rendered import KSERVE, OLDEST, Object, plain

PLACE = "/mnt/models"
"""Where KServe puts what storageUri names."""


@pytest.fixture(scope="module")
def runtime() -> Object:
    (only,) = plain(KSERVE / "serving-runtime.yaml")
    return dict(only)


def _container(runtime: Object) -> Object:
    (only,) = runtime["spec"]["containers"]
    return dict(only)


def test_its_pod_keeps_kubernetes_schema(runtime: Object) -> None:
    volumes = runtime["spec"]["volumes"]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "imagenet"},
        "spec": {"containers": [_container(runtime)], "volumes": volumes},
    }
    kubernetes_validate.validate(pod, OLDEST, strict=True)
    context = _container(runtime)["securityContext"]
    assert context["readOnlyRootFilesystem"] is True
    assert context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert {mount["mountPath"] for mount in _container(runtime)["volumeMounts"]} == {"/tmp"}


def test_settings_exist(runtime: Object) -> None:
    given = {each["name"]: each["value"] for each in _container(runtime)["env"]}
    for service in plain(KSERVE / "inference-service.yaml"):
        given |= {e["name"]: e["value"] for e in service["spec"]["predictor"]["model"]["env"]}
    assert set(given) <= {PREFIX + name.upper() for name in Settings.model_fields}
    assert given["ZOO_MODELS"] == PLACE


def test_inference_services_ask_for_what_the_runtime_has(runtime: Object) -> None:
    formats = {each["name"] for each in runtime["spec"]["supportedModelFormats"]}
    env = {each["name"]: each["value"] for each in _container(runtime)["env"]}
    protocols = []
    for service in plain(KSERVE / "inference-service.yaml"):
        model = service["spec"]["predictor"]["model"]
        assert model["runtime"] == runtime["metadata"]["name"]
        assert model["modelFormat"]["name"] in formats
        protocols.append(model["protocolVersion"])
        ports = [port["containerPort"] for port in model.get("ports", ())]
        assert ports == ([int(env["ZOO_GRPC_PORT"])] if "grpc" in protocols[-1] else [])
    assert sorted(protocols) == sorted(runtime["spec"]["protocolVersions"])


def test_the_arguments_are_those_of_bentoml(runtime: Object) -> None:
    flag, port = _container(runtime)["args"]
    assert flag == "--port"  # as tests/server.py starts it
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert _container(runtime)[probe]["httpGet"]["port"] == int(port)
    annotations = runtime["spec"]["annotations"]
    assert annotations["prometheus.kserve.io/port"] == port
