"""What deploy/kubernetes renders to: it keeps the schemas, and it fits the service."""

from __future__ import annotations

import copy
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from service.config.settings import PREFIX, Settings
from tests.capabilities import program
from tests.harness.rendered import (
    KSERVE,
    KUBERNETES,
    OLDEST,
    OVERLAYS,
    Object,
    container,
    environment,
    kustomize,
    one,
    plain,
    with_components,
)
from tests.paths import ROOT
from tests.server import Server, serving

CUSTOM = {"ServiceMonitor"}


@pytest.fixture(scope="module", params=OVERLAYS)
def objects(request: pytest.FixtureRequest) -> list[Object]:
    return kustomize(KUBERNETES / "overlays" / request.param)


@pytest.fixture(scope="module")
def cpu() -> list[Object]:
    return kustomize(KUBERNETES / "overlays" / "cpu")


def keeps_the_schemas(objects: list[Object]) -> None:
    for each in objects:
        if each["kind"] not in CUSTOM:
            for version in (OLDEST, kubernetes_validate.latest_version()):
                kubernetes_validate.validate(each, version, strict=True)


def test_overlays_keep_kubernetes_schemas(objects: list[Object]) -> None:
    assert {each["kind"] for each in objects} >= {
        *("Namespace", "ServiceAccount", "Deployment", "Service", "ConfigMap"),
        *("HorizontalPodAutoscaler", "PodDisruptionBudget", "NetworkPolicy", "ServiceMonitor"),
    }
    keeps_the_schemas(objects)
    assert all(
        each["metadata"].get("namespace") == "imagenet-zoo"
        for each in objects
        if each["kind"] != "Namespace"
    )


def test_pods_reach_nobody_and_are_reached_by_few(objects: list[Object]) -> None:
    policy = one(objects, "NetworkPolicy")["spec"]
    assert sorted(policy["policyTypes"]) == ["Egress", "Ingress"]
    assert policy["egress"] == []
    for rule in policy["ingress"]:
        assert rule["from"]
        assert {port["port"] for port in rule["ports"]} <= {"http", "grpc"}


def test_a_misspelt_field_would_be_seen(cpu: list[Object]) -> None:
    deployment = copy.deepcopy(one(cpu, "Deployment"))
    kubernetes_validate.validate(deployment, OLDEST, strict=True)
    deployment["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, OLDEST, strict=True)


def test_components_render_and_keep_the_schemas(tmp_path: Path) -> None:
    objects = with_components(tmp_path, "ingress", "models")
    keeps_the_schemas(objects)
    assert environment(objects)["ZOO_MODELS"] == "/models"
    service = one(objects, "Service", "imagenet-zoo")
    ports = {port["name"] for port in service["spec"]["ports"]}
    for ingress in (each for each in objects if each["kind"] == "Ingress"):
        for rule in ingress["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                backend = path["backend"]["service"]
                assert backend["name"] == service["metadata"]["name"]
                assert backend["port"]["name"] in ports


def test_the_service_monitor_keeps_the_operators_schema(objects: list[Object]) -> None:
    monitor = one(objects, "ServiceMonitor")
    from cloudcoil.models.prometheus_operator import v1 as prometheus_operator  # takes seconds

    read = prometheus_operator.ServiceMonitor.model_validate(monitor)
    # its models pass over what they do not know: nothing may be lost
    assert read.model_dump(mode="json", by_alias=True, exclude_unset=True) == monitor
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    chosen = [
        each
        for each in objects
        if each["kind"] == "Service" and wanted <= each["metadata"]["labels"].items()
    ]
    (service,) = chosen  # by two Services each pod would be scraped twice
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}


def test_every_selector_finds_the_pods(objects: list[Object]) -> None:
    labels = one(objects, "Deployment")["spec"]["template"]["metadata"]["labels"].items()
    selectors = [each["spec"]["selector"] for each in objects if each["kind"] == "Service"]
    selectors += [
        one(objects, "Deployment")["spec"]["selector"]["matchLabels"],
        one(objects, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        one(objects, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
    ]
    spread = one(objects, "Deployment")["spec"]["template"]["spec"]["topologySpreadConstraints"]
    selectors += [each["labelSelector"]["matchLabels"] for each in spread]
    assert len(selectors) == 7
    assert all(selector and selector.items() <= labels for selector in selectors)


def test_the_autoscaler_scales_the_deployment(objects: list[Object]) -> None:
    autoscaler, deployment = one(objects, "HorizontalPodAutoscaler"), one(objects, "Deployment")
    assert autoscaler["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert "replicas" not in deployment["spec"]  # else a rollout sets back what it chose


def test_settings_exist_and_can_be_read(
    objects: list[Object], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = environment(objects)
    assert {name for name in given if name.startswith(PREFIX)} == set(given)
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    assert set(given) <= known
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert settings.host == "0.0.0.0"
    ports = {port["name"]: port["containerPort"] for port in _ports(objects)}
    assert settings.grpc_port == ports["grpc"]
    assert settings.max_bodies_bytes >= settings.max_body_bytes
    pod = one(objects, "Deployment")["spec"]["template"]["spec"]
    assert pod["enableServiceLinks"] is False


def test_a_pod_has_the_time_to_finish(
    objects: list[Object], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment(objects).items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    pod = one(objects, "Deployment")["spec"]["template"]["spec"]
    before = container(one(objects, "Deployment"))["lifecycle"]["preStop"]["sleep"]["seconds"]
    finish = (settings.drain_ms + settings.grace_ms) / 1e3
    assert pod["terminationGracePeriodSeconds"] >= before + finish + 10  # docs/operations.md


def test_pods_keep_the_restricted_standard(objects: list[Object]) -> None:
    pod = one(objects, "Deployment")["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 10001
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    mounts = _may_little(container(one(objects, "Deployment")))
    volumes = {each["name"]: each for each in pod["volumes"]}
    assert set(mounts) == set(volumes)
    assert "emptyDir" in volumes["tmp"]


def _may_little(service: Object) -> dict[str, str]:
    """What a container of ours may not; its mounts."""
    assert service["securityContext"]["allowPrivilegeEscalation"] is False
    assert service["securityContext"]["readOnlyRootFilesystem"] is True
    assert service["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    return {each["name"]: each["mountPath"] for each in service["volumeMounts"]}


def _ports(objects: list[Object]) -> list[Object]:
    return list(container(one(objects, "Deployment"))["ports"])


def test_a_gpu_pod_asks_for_one_and_keeps_its_engines() -> None:
    objects = kustomize(KUBERNETES / "overlays" / "gpu")
    given = environment(objects)
    service = container(one(objects, "Deployment"))
    assert service["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert given["ZOO_PROVIDERS_STRICT"] == "true"
    mounts = {each["mountPath"]: each["name"] for each in service["volumeMounts"]}
    assert set(mounts) == {"/tmp", given["ZOO_CACHE"]}
    assert service["image"].endswith("-gpu")


def test_the_page_says_what_the_manifests_have(cpu: list[Object]) -> None:
    gpu = kustomize(KUBERNETES / "overlays" / "gpu")
    page = " ".join((ROOT / "docs" / "kubernetes.md").read_text().split())
    scaled = one(cpu, "HorizontalPodAutoscaler")["spec"]
    on_gpus = one(gpu, "HorizontalPodAutoscaler")["spec"]
    crops, busy = scaled["metrics"]
    many = crops["pods"]["target"]["averageValue"]
    batches = on_gpus["metrics"][0]["pods"]["target"]["averageValue"]
    share = busy["resource"]["target"]["averageUtilization"]
    wait = container(one(cpu, "Deployment"))["lifecycle"]["preStop"]["sleep"]["seconds"]
    least, most, few = scaled["minReplicas"], scaled["maxReplicas"], on_gpus["maxReplicas"]
    for words in (
        f"| {least} to {most} pods (GPU: {few}) |",
        f"**`zoo_admitted_crops`, {many} per pod** (GPU: {batches})",
        f"**CPU, {share} % of the request**",
        f"`preStop` waits {wait} s",
        f"Kubernetes {OLDEST} or newer",
    ):
        assert words in page, words


def test_cpus_are_whole(objects: list[Object]) -> None:
    resources = container(one(objects, "Deployment"))["resources"]
    assert resources["limits"]["cpu"] == resources["requests"]["cpu"]
    assert resources["limits"]["cpu"].isdigit()


def test_probes_are_answered_by_the_service(server: Server, cpu: list[Object]) -> None:
    service = container(one(cpu, "Deployment"))
    (runtime,) = plain(KSERVE / "serving-runtime.yaml")
    for each in (service, *runtime["spec"]["containers"]):
        for name in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert server.client.get(each[name]["httpGet"]["path"]).status_code == 200, name
    assert {port["name"]: port["containerPort"] for port in service["ports"]} == {
        "http": 3000,
        "grpc": 3001,
    }
    paths = {"startupProbe": "/readyz", "readinessProbe": "/readyz", "livenessProbe": "/livez"}
    for probe, path in paths.items():
        assert service[probe]["httpGet"] == {"port": "http", "path": path}


def test_the_service_starts_with_its_settings_and_its_ceiling_fits(
    cpu: list[Object], tmp_path: Path
) -> None:
    limits = container(one(cpu, "Deployment"))["resources"]["limits"]
    ours = {"ZOO_HOST": "127.0.0.1", "ZOO_THREADS": int(limits["cpu"])}
    given: dict[str, Any] = {**environment(cpu), **ours}
    del given["ZOO_GRPC_PORT"]
    with serving(tmp_path, **{name.lower(): value for name, value in given.items()}) as running:
        ceiling = sum(
            float(line.rpartition(" ")[2])
            for line in running.client.get("/metrics").text.splitlines()
            if line.startswith("zoo_memory_ceiling_bytes{") and "grpc_messages" not in line
        )
    assert ceiling > 1e9
    assert limits["memory"].endswith("Gi")
    others = 500e6  # supervisor and spare process
    assert ceiling + others < int(limits["memory"].removesuffix("Gi")) * 2**30


def test_what_is_scaled_by_is_there(server: Server, cpu: list[Object]) -> None:
    (rule,) = _adapter()["rules"]["custom"]
    (name,) = (
        metric["pods"]["metric"]["name"]
        for metric in one(cpu, "HorizontalPodAutoscaler")["spec"]["metrics"]
        if metric["type"] == "Pods"
    )
    assert rule["name"]["as"] == name
    series = rule["seriesQuery"].partition("{")[0]
    lines = server.client.get("/metrics").text.splitlines()
    assert any(line.startswith((series + " ", series + "{")) for line in lines)


def _adapter() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((KUBERNETES / "prometheus-adapter.yaml").read_text())
    return loaded


@pytest.mark.needs("promtool")
def test_the_adapters_query_gives_each_pod_its_mean(tmp_path: Path) -> None:
    """As prometheus-adapter fills its template in, asked of Prometheus' own engine."""
    (rule,) = _adapter()["rules"]["custom"]
    query = rule["metricsQuery"]
    series = rule["seriesQuery"].partition("{")[0]
    for old, new in {
        "<<.Series>>": series,
        "<<.LabelMatchers>>": 'namespace="imagenet-zoo",pod=~"a|b"',
        "<<.GroupBy>>": "pod",
    }.items():
        query = query.replace(old, new)
    test = {
        "evaluation_interval": "15s",
        "tests": [
            {
                "interval": "15s",
                "input_series": [
                    {"series": _series(series, "imagenet-zoo", "a"), "values": "0 4 8 8"},
                    {"series": _series(series, "imagenet-zoo", "b"), "values": "2 2 2 2"},
                    {"series": _series(series, "another", "a"), "values": "9 9 9 9"},
                ],
                "promql_expr_test": [
                    {
                        "expr": query,
                        "eval_time": "44s",
                        "exp_samples": [
                            {"labels": '{pod="a"}', "value": 6},
                            {"labels": '{pod="b"}', "value": 2},
                        ],
                    }
                ],
            }
        ],
    }
    path = tmp_path / "adapter_test.yml"
    path.write_text(yaml.safe_dump(test))
    command = [program("promtool"), "test", "rules", str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def _series(name: str, namespace: str, pod: str) -> str:
    return f'{name}{{namespace="{namespace}",pod="{pod}"}}'
