"""Writes the dashboard: ``python deploy/grafana/dashboard.py``.

A panel is a line here and forty lines of JSON there, which Grafana reads (dashboards/).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

PAGE = Path(__file__).resolve().parent / "dashboards" / "imagenet-zoo.json"
SCHEMA_VERSION = 41
"""That of Grafana 12; later ones take it as it is."""
WIDTH = 24
SOURCE = {"type": "prometheus", "uid": "${datasource}"}

HERE = 'job="$job", instance=~"$instance"'
MODEL = f'{HERE}, model=~"$model"'
FAILED = 'code=~"internal|overloaded|not_ready|deadline_exceeded"'


class Panel(NamedTuple):
    """Queries by what their series are called in the legend."""

    title: str
    queries: dict[str, str]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    about: str = ""
    stacked: bool = False
    red_from: float | None = None
    green_from: float | None = None


def rate(metric: str, *labels: str, where: str = MODEL) -> str:
    """The rate per second of a counter, summed by labels."""
    return f"sum by ({', '.join(labels)}) (rate({metric}{{{where}}}[$__rate_interval]))"


def quantile(share: float, metric: str, *labels: str, where: str = MODEL) -> str:
    """A quantile of a histogram by labels."""
    return f"histogram_quantile({share}, {rate(f'{metric}_bucket', *labels, 'le', where=where)})"


def mean(metric: str, *labels: str, where: str = MODEL) -> str:
    """The mean of what a histogram has seen, by labels."""
    sums, counts = (rate(f"{metric}_{end}", *labels, where=where) for end in ("sum", "count"))
    return f"{sums} / {counts}"


def burn(what: str, budget: float, window: str) -> str:
    """How many times as fast as allowed an objective's budget is used."""
    return f'job:zoo_requests_{what}:ratio_rate{window}{{job="$job"}} / {budget}'


ROWS: dict[str, list[Panel]] = {
    "At a glance": [
        Panel(
            "Ready",
            {"": f"min(zoo_ready{{{HERE}}})"},
            kind="stat",
            width=3,
            green_from=1,
            about="1: the default model answers in every worker of every instance.",
        ),
        Panel("Requests", {"": rate("zoo_requests_total")}, "reqps", "stat", 3),
        Panel(
            "Refused or failed",
            {
                "": f"{rate('zoo_requests_total', where=f'{MODEL}, {FAILED}')} / "
                f"{rate('zoo_requests_total')} or vector(0)"
            },
            "percentunit",
            "stat",
            3,
            red_from=0.001,
            about="Of all requests; what clients do wrong is not in it.",
        ),
        Panel(
            "Slowest hundredth",
            {"": quantile(0.99, "zoo_request_seconds")},
            "s",
            "stat",
            3,
            red_from=1,
        ),
        Panel(
            "Queue used",
            {"": f"sum(zoo_admitted_crops{{{HERE}}}) / sum(zoo_admitted_limit_crops{{{HERE}}})"},
            "percentunit",
            "stat",
            3,
            red_from=0.8,
        ),
        Panel(
            "Versions ready",
            {"": f"sum(zoo_model_ready{{{MODEL}}})"},
            kind="stat",
            width=3,
            green_from=1,
        ),
        Panel(
            "Workers",
            {"": f"count(process_start_time_seconds{{{HERE}}})"},
            kind="stat",
            width=3,
            green_from=1,
        ),
        Panel(
            "Memory used",
            {
                "": f"sum(process_resident_memory_bytes{{{HERE}}}) / "
                f"sum(zoo_memory_limit_bytes{{{HERE}}})"
            },
            "percentunit",
            "stat",
            3,
            red_from=0.9,
        ),
    ],
    "Objectives": [
        Panel(
            "Budget for refused and failed requests: times as fast as allowed",
            {window: burn("failed", 0.001, window) for window in ("5m", "1h", "6h", "3d")},
            width=12,
            red_from=1,
            about="Over a window each. Above 1 for 30 days the objective is missed.",
        ),
        Panel(
            "Budget for slow requests: times as fast as allowed",
            {window: burn("slow", 0.01, window) for window in ("5m", "1h", "6h", "3d")},
            width=12,
            red_from=1,
            about="1 % of requests may take longer than 1 s (deploy/prometheus).",
        ),
    ],
    "Traffic": [
        Panel(
            "Requests by model and version",
            {"{{model}} {{version}}": rate("zoo_requests_total", "model", "version")},
            "reqps",
        ),
        Panel(
            "Requests by transport",
            {"{{transport}}": rate("zoo_requests_total", "transport")},
            "reqps",
        ),
        Panel(
            "Pictures by model and protocol",
            {"{{model}} {{protocol}}": rate("zoo_pictures_total", "model", "protocol")},
            "ops",
        ),
    ],
    "Errors": [
        Panel(
            "Requests that were not answered, by code",
            {"{{code}}": rate("zoo_requests_total", "code", where=f'{MODEL}, code!="ok"')},
            "reqps",
            stacked=True,
            about="docs/api.md says what each code is.",
        ),
        Panel(
            "Refused for overload, by reason",
            {"{{reason}}": rate("zoo_overload_refusals_total", "reason", where=HERE)},
            "reqps",
            width=5,
            stacked=True,
        ),
        Panel(
            "Given up before the device",
            {"{{reason}}": rate("zoo_dropped_requests_total", "reason")},
            "ops",
            width=5,
            about="cancelled: the client had left. expired: the deadline had passed.",
        ),
        Panel(
            "Refused for their key",
            {"{{code}}": rate("zoo_access_refusals_total", "code", where=HERE)},
            "reqps",
            width=6,
        ),
    ],
    "Latency": [
        Panel(
            "Requests",
            {
                "half": quantile(0.5, "zoo_request_seconds"),
                "9 of 10": quantile(0.9, "zoo_request_seconds"),
                "99 of 100": quantile(0.99, "zoo_request_seconds"),
            },
            "s",
            about="Of requests that were answered, from when they were read.",
        ),
        Panel(
            "99 of 100 by model",
            {"{{model}}": quantile(0.99, "zoo_request_seconds", "model")},
            "s",
        ),
        Panel(
            "Distribution",
            {"{{le}}": rate("zoo_request_seconds_bucket", "le")},
            "s",
            "heatmap",
        ),
        Panel(
            "Where a picture's time goes, on average",
            {"{{stage}}": mean("zoo_stage_seconds", "stage", where=f'{MODEL}, stage!="total"')},
            "s",
            width=12,
            stacked=True,
            about="Mostly queue: more is asked for than is computed.",
        ),
        Panel(
            "Stages, 99 of 100",
            {"{{stage}}": quantile(0.99, "zoo_stage_seconds", "stage")},
            "s",
            width=12,
        ),
    ],
    "Queue and batches": [
        Panel(
            "Crops accepted and not yet answered",
            {
                "{{instance}}": f"zoo_admitted_crops{{{HERE}}}",
                "limit {{instance}}": f"zoo_admitted_limit_crops{{{HERE}}}",
            },
        ),
        Panel(
            "Crops that wait for the device",
            {"{{model}}": f"sum by (model) (zoo_queue_crops{{{MODEL}}})"},
        ),
        Panel(
            "Bytes of request bodies held",
            {
                "{{instance}}": f"zoo_body_bytes{{{HERE}}}",
                "limit {{instance}}": f"zoo_body_limit_bytes{{{HERE}}}",
            },
            "bytes",
        ),
        Panel(
            "Crops in a batch, on average",
            {"{{model}}": mean("zoo_batch_crops", "model")},
            width=6,
        ),
        Panel(
            "Crops computed",
            {"{{model}}": rate("zoo_batch_crops_sum", "model")},
            "ops",
            width=6,
        ),
        Panel(
            "Device time of a batch",
            {
                "{{model}} half": quantile(0.5, "zoo_batch_seconds", "model"),
                "{{model}} 99 of 100": quantile(0.99, "zoo_batch_seconds", "model"),
            },
            "s",
            width=6,
        ),
        Panel(
            "Batches computed at a time",
            {"{{model}}": rate("zoo_batch_seconds_sum", "model")},
            width=6,
            stacked=True,
            about="The share of time that the device is busy; above 1 several batches run at once.",
        ),
    ],
    "Device and provider": [
        Panel(
            "What computes each version",
            {"": f"max by (model, version, provider, precision) (zoo_model_info{{{MODEL}}})"},
            kind="table",
            width=10,
        ),
        Panel(
            "Nodes of the graph by provider",
            {
                "{{model}} {{provider}}": "max by (model, version, provider) "
                f"(zoo_model_nodes{{{MODEL}}})"
            },
            kind="bargauge",
            width=8,
        ),
        Panel(
            "Not on the provider that it should be",
            {"{{model}} {{version}}": f"max by (model, version) (zoo_model_fallback{{{MODEL}}})"},
            width=6,
            red_from=1,
        ),
    ],
    "Models": [
        Panel(
            "Ready in every worker",
            {"{{model}} {{version}}": f"min by (model, version) (zoo_model_ready{{{MODEL}}})"},
            kind="state-timeline",
            width=12,
            green_from=1,
        ),
        Panel(
            "Refused",
            {"{{model}} {{version}}": f"max by (model, version) (zoo_model_refused{{{MODEL}}})"},
            kind="state-timeline",
            width=12,
            red_from=1,
        ),
        Panel(
            "Loads by result",
            {"{{model}} {{result}}": rate("zoo_model_loads_total", "model", "result")},
            "ops",
            width=6,
        ),
        Panel(
            "Swaps, evictions, failed batches",
            {
                "{{model}} took over": rate("zoo_model_swaps_total", "model"),
                "{{model}} made room": rate("zoo_model_evictions_total", "model"),
                "{{model}} batch failed": rate("zoo_retried_batches_total", "model"),
            },
            "ops",
            width=6,
        ),
        Panel(
            "Most crops in a batch",
            {"{{model}} {{version}}": f"min by (model, version) (zoo_model_max_batch{{{MODEL}}})"},
            width=6,
            about="It falls when the device runs out of memory.",
        ),
        Panel(
            "Estimated memory",
            {
                "{{model}} {{version}}": f"sum by (model, version) (zoo_model_bytes{{{MODEL}}})",
                "limit (0: none)": f"sum(zoo_model_limit_bytes{{{HERE}}})",
            },
            "bytes",
            width=6,
        ),
    ],
    "Memory": [
        Panel(
            "Memory of each worker",
            {"{{instance}} {{worker}}": f"process_resident_memory_bytes{{{HERE}}}"},
            "bytes",
            width=12,
        ),
        Panel(
            "Memory of each instance",
            {
                "{{instance}}": f"sum by (instance) (process_resident_memory_bytes{{{HERE}}})",
                "limit {{instance}}": f"zoo_memory_limit_bytes{{{HERE}}}",
                "ceiling {{instance}}": "sum by (instance) (zoo_memory_ceiling_bytes"
                f'{{{HERE}, term!="grpc_messages"}})',
            },
            "bytes",
            width=12,
        ),
    ],
    "Workers": [
        Panel(
            "Cores used",
            {
                "{{instance}} {{worker}}": "rate(process_cpu_seconds_total"
                f"{{{HERE}}}[$__rate_interval])"
            },
            width=6,
        ),
        Panel(
            "Threads busy",
            {"{{instance}}": f"instance:zoo_threads_busy:ratio_rate5m{{{HERE}}}"},
            "percentunit",
            width=6,
        ),
        Panel(
            "Files and connections open",
            {
                "{{instance}} {{worker}}": f"process_open_fds{{{HERE}}}",
                "limit": f"min(process_max_fds{{{HERE}}})",
            },
            width=6,
        ),
        Panel(
            "HTTP connections",
            {"{{instance}}": f"zoo_http_connections{{{HERE}}}"},
            width=6,
        ),
        Panel(
            "HTTP connections that were ended, by reason",
            {"{{reason}}": rate("zoo_http_connections_ended_total", "reason", where=HERE)},
            "ops",
            width=6,
            about="slow_…: clients that send or read too slowly. too_many: turned away.",
        ),
        Panel(
            "Starts in the last hour",
            {"{{instance}} {{worker}}": f"increase(zoo_worker_starts_total{{{HERE}}}[1h])"},
            kind="bargauge",
            width=6,
            red_from=1,
            about="After the first; each is a worker that died.",
        ),
        Panel(
            "Up since",
            {"{{instance}} {{worker}}": f"time() - process_start_time_seconds{{{HERE}}}"},
            "s",
            "stat",
            12,
        ),
        Panel(
            "Releases",
            {"": f"count by (version, onnxruntime, python) (zoo_build_info{{{HERE}}})"},
            kind="table",
            width=12,
            about="How many instances run each.",
        ),
    ],
}


def dashboard() -> dict[str, Any]:
    """All of it, as Grafana's JSON model."""
    return {
        "uid": "imagenet-zoo",
        "title": "ImageNet zoo",
        "description": "The inference service: docs/observability.md.",
        "tags": ["imagenet-zoo"],
        "schemaVersion": SCHEMA_VERSION,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "annotations": {"list": [_annotation()]},
        "templating": {"list": list(_variables())},
        "panels": list(_panels()),
    }


def _annotation() -> dict[str, Any]:
    return {
        "name": "A worker starts",
        "datasource": SOURCE,
        "enable": True,
        "iconColor": "orange",
        "expr": f"process_start_time_seconds{{{HERE}}} * 1000",
        "useValueForTime": "on",
        "titleFormat": "worker {{worker}} of {{instance}} starts",
        "step": "60s",
    }


def _variables() -> Iterator[dict[str, Any]]:
    yield {
        "name": "datasource",
        "label": "Prometheus",
        "type": "datasource",
        "query": "prometheus",
        "current": {"text": "Prometheus", "value": "prometheus"},
    }
    yield _variable("job", "label_values(zoo_ready, job)", many=False)
    yield _variable("instance", 'label_values(zoo_ready{job="$job"}, instance)')
    # what a request asked for may be no model at all: `unknown`
    of_models = f"label_values(zoo_requests_total{{{HERE}}}, model)"
    yield _variable("model", of_models) | {"allValue": ".*"}


def _variable(name: str, query: str, *, many: bool = True) -> dict[str, Any]:
    everything = {"text": "All", "value": "$__all"} if many else {}
    return {
        "name": name,
        "label": name.capitalize(),
        "type": "query",
        "datasource": SOURCE,
        "definition": query,
        "query": {"qryType": 1, "query": query, "refId": name},
        "refresh": 2,
        "sort": 1,
        "multi": many,
        "includeAll": many,
        "current": everything,
        "options": [],
    }


def _panels() -> Iterator[dict[str, Any]]:
    number, top = 1, 0
    for title, panels in ROWS.items():
        yield {
            "id": number,
            "type": "row",
            "title": title,
            "collapsed": False,
            "gridPos": {"x": 0, "y": top, "w": WIDTH, "h": 1},
            "panels": [],
        }
        number, top, left = number + 1, top + 1, 0
        height = 4 if all(panel.kind == "stat" for panel in panels) else 8
        for panel in panels:
            if left + panel.width > WIDTH:
                left, top = 0, top + height
            place = {"x": left, "y": top, "w": panel.width, "h": height}
            yield _panel(panel, number) | {"gridPos": place}
            number, left = number + 1, left + panel.width
        top += height


def _panel(panel: Panel, number: int) -> dict[str, Any]:
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0}
    steps = _steps(panel)
    if steps is not None:
        defaults["thresholds"] = {"mode": "absolute", "steps": steps}
        defaults["color"] = {"mode": "thresholds"}
    if panel.kind == "timeseries":
        defaults["custom"] = {"fillOpacity": 10, "showPoints": "never", "spanNulls": False}
        defaults["color"] = {"mode": "palette-classic"}
        if panel.stacked:
            defaults["custom"] |= {"fillOpacity": 40, "stacking": {"mode": "normal", "group": "A"}}
        if steps is not None:
            defaults["custom"]["thresholdsStyle"] = {"mode": "line"}
    instant = panel.kind in ("stat", "table", "bargauge")
    form = {"table": "table", "heatmap": "heatmap"}.get(panel.kind, "time_series")
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        **({"description": panel.about} if panel.about else {}),
        "datasource": SOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": _OPTIONS[panel.kind],
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": SOURCE,
                "editorMode": "code",
                "expr": query,
                "legendFormat": legend or "__auto",
                "format": form,
                "range": not instant,
                "instant": instant,
            }
            for index, (legend, query) in enumerate(panel.queries.items())
        ],
        **(
            {"transformations": [{"id": "organize", "options": {"excludeByName": {"Time": True}}}]}
            if panel.kind == "table"
            else {}
        ),
    }


def _steps(panel: Panel) -> list[dict[str, Any]] | None:
    if panel.green_from is not None:
        return [{"color": "red", "value": None}, {"color": "green", "value": panel.green_from}]
    if panel.red_from is not None:
        return [{"color": "green", "value": None}, {"color": "red", "value": panel.red_from}]
    return None


_REDUCED = {"values": False, "calcs": ["lastNotNull"], "fields": ""}
_OPTIONS: dict[str, dict[str, Any]] = {
    "timeseries": {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "stat": {
        "reduceOptions": _REDUCED,
        "colorMode": "background",
        "graphMode": "none",
        "textMode": "auto",
    },
    "bargauge": {
        "reduceOptions": _REDUCED,
        "orientation": "horizontal",
        "displayMode": "basic",
        "valueMode": "color",
    },
    "table": {"showHeader": True, "cellHeight": "sm"},
    "state-timeline": {
        "showValue": "never",
        "mergeValues": True,
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
    },
    "heatmap": {
        "calculate": False,
        "yAxis": {"unit": "s"},
        "color": {"mode": "scheme", "scheme": "Oranges", "steps": 64},
        "tooltip": {"mode": "single", "yHistogram": False},
    },
}


def text() -> str:
    """What the file holds."""
    return json.dumps(dashboard(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    PAGE.write_text(text())
