"""deploy/compose.yaml against the schema of the Compose specification, and what it promises."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from service.config.settings import PREFIX, Settings
from tests.paths import ROOT

DEPLOY = ROOT / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
GPU: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.gpu.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]

each = pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES)


def test_the_services() -> None:
    assert set(SERVICES) == {"zoo", "prometheus", "grafana", "locust"}
    assert [name for name, service in SERVICES.items() if "profiles" not in service] == ["zoo"]
    assert set(GPU["services"]) == {"zoo"}


@each
def test_nobody_may_do_more_than_needed(service: dict[str, Any]) -> None:
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert service["mem_limit"]
    assert not {"privileged", "cap_add", "network_mode", "pid"} & set(service)


@each
def test_ports_are_published_on_this_machine_alone(service: dict[str, Any]) -> None:
    for port in service["ports"]:
        assert port.startswith(("127.0.0.1:", "${ZOO_PUBLISH:-127.0.0.1}:")), port


@each
def test_images_of_others_have_a_version(service: dict[str, Any]) -> None:
    if "build" in service:
        assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
    else:
        assert re.search(r":v?\d+\.\d+\.\d+$", service["image"])
        assert service["healthcheck"]["test"]


@each
def test_what_is_mounted_from_here_exists_and_is_read_only(service: dict[str, Any]) -> None:
    for volume in service.get("volumes", []):
        if isinstance(volume, str):
            name, _, target = volume.partition(":")
            assert name in COMPOSE["volumes"], volume
            assert target.startswith("/")
        else:
            source = re.sub(r"^\$\{\w+:-(.*)\}$", r"\1", volume["source"])
            assert (DEPLOY / source).is_dir(), source
            assert volume["read_only"] is True


@pytest.mark.parametrize("zoo", [SERVICES["zoo"], GPU["services"]["zoo"]], ids=["cpu", "gpu"])
def test_the_settings_are_the_services_own(zoo: dict[str, Any]) -> None:
    for name, value in zoo["environment"].items():
        setting = name.removeprefix(PREFIX).lower()
        assert setting in Settings.model_fields, name
        assert value.startswith(f"${{{name}:-"), "as the shell has it, else a default"


def test_accepted_work_is_finished_before_docker_kills() -> None:
    docker_waits_s = int(SERVICES["zoo"]["stop_grace_period"].removesuffix("s"))
    takes_ms = sum(Settings.model_fields[name].default for name in ("drain_ms", "grace_ms"))
    assert docker_waits_s > takes_ms / 1000 + 10  # docs/operations.md


def test_prometheus_and_locust_find_the_service() -> None:
    prometheus = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
    targets = [
        target
        for job in prometheus["scrape_configs"]
        for config in job["static_configs"]
        for target in config["targets"]
    ]
    assert "zoo:3000" in targets
    assert SERVICES["locust"]["environment"]["LOCUST_HOST"] == "http://zoo:3000"
