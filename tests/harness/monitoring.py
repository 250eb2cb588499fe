"""The alerts and the dashboard of deploy/, as tests read them."""

from __future__ import annotations

import importlib.util
import json
from typing import Any

import yaml

from tests.paths import ROOT

PROMETHEUS = ROOT / "deploy" / "prometheus"
GRAFANA = ROOT / "deploy" / "grafana"


def alerts() -> list[dict[str, Any]]:
    content = yaml.safe_load((PROMETHEUS / "alerts.rules.yml").read_text())
    return [rule for group in content["groups"] for rule in group["rules"]]


def written() -> dict[str, Any]:
    spec = importlib.util.spec_from_file_location("dashboard", GRAFANA / "dashboard.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.PAGE.read_text() == module.text()  # python deploy/grafana/dashboard.py
    content: dict[str, Any] = json.loads(module.text())
    return content
