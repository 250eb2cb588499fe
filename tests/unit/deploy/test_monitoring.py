"""Rules, alerts and the dashboard: checked by promtool, and asked of a real Prometheus."""

from __future__ import annotations

import re

import yaml

from tests.harness.monitoring import GRAFANA, alerts, written
from tests.paths import ROOT

TESTS = ROOT / "tests" / "served" / "deploy"
RUNBOOK = ROOT / "docs" / "observability.md"


def test_every_alert_is_tested_both_ways_and_has_its_runbook() -> None:
    groups = [
        group
        for path in TESTS.glob("*.test.yml")
        for group in yaml.safe_load(path.read_text())["tests"]
    ]
    expected: dict[str, set[bool]] = {}
    for group in groups:
        for test in group["promql_expr_test"]:
            if name := re.search('alertname="([A-Za-z]+)"', test["expr"]):
                expected.setdefault(name[1], set()).add(bool(test["exp_samples"]))
    headings = re.findall(r"(?m)^### (\S+)$", RUNBOOK.read_text())
    assert headings == [alert["alert"] for alert in alerts()]
    for alert in alerts():
        name, notes = alert["alert"], alert["annotations"]
        assert expected[name] == {True, False}, name
        assert alert["labels"]["severity"] in ("critical", "warning"), name
        assert notes["runbook"] == f"docs/observability.md#{name.lower()}"
        assert notes["summary"]
        assert notes["description"].endswith("."), name


def test_the_dashboard_is_whole() -> None:
    dashboard = written()
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
        if panel["type"] == "row":
            continue
        assert panel["targets"], panel["title"]
        letters = [target["refId"] for target in panel["targets"]]
        assert len(set(letters)) == len(letters)
    datasources = yaml.safe_load(
        (GRAFANA / "provisioning" / "datasources" / "prometheus.yml").read_text()
    )
    chosen = dashboard["templating"]["list"][0]["current"]["value"]
    assert [each["uid"] for each in datasources["datasources"]] == [chosen]
