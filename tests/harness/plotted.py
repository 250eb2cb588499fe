"""Rows of the benchmarks' CSVs, made up to be plotted."""

from __future__ import annotations

from typing import Any

from loadtests.benchmarks import coldstart, profile

ABOUT = {"processor": "Abacus", "cores": "2 of 4", "python": "3.14"}


def _coldstart() -> list[dict[str, object]]:
    taken = {}
    for number, load in enumerate(coldstart.LOADS, start=1):
        for count in coldstart.MODELS:
            figures = {"ready_s": 2.0 * number, "rss_mb": 100.0 + count, "pss_mb": 90.0 + count}
            if load == "used" and count > 1:
                figures |= {"first_answer_s": 0.1, "first_use_mb": 3.0}
            taken[load, count] = [figures, {k: 1.1 * v for k, v in figures.items()}]
    return coldstart.report(taken, "lenet5")


def _precision() -> list[dict[str, object]]:
    share = {"agreement": 0.97, "confident_agreement": 1.0, "hard_agreement": 0.9}
    speed = {"speedup": 2.0, "speedup_lower_quartile": 1.9, "speedup_upper_quartile": 2.2}
    return [
        {"network": "lenet5", "precision": precision, "provider": provider, "crops": 40}
        | {"float_layers": layers, **share, **speed}
        for precision, provider in (("int8", "cpu"), ("bf16", "openvino"))
        for layers in (0, 3, 6)
    ]


_RATIO = {"ratio": 0.5, "ratio_low": 0.4, "ratio_high": 0.7}
_SHARE = {"of_limit": 0.8, "of_limit_q1": 0.7, "of_limit_q3": 0.9}
_FIGURES = (
    *("p99 at 70 %, Poisson / unloaded median", "in time at 3x overload / peak"),
    *("429 at 3x overload, p99 in ms", "peak in pictures/s"),
)
ROWS: dict[str, list[dict[str, Any]]] = {
    "batching.csv": [
        {"model": name, "provider": "cpu", "precision": "fp32", "learnt": 4}
        | {"threads": threads, "batch": batch, **_RATIO}
        for name in ("one", "two")
        for threads in (1, 2)
        for batch in (1, 2, 4)
    ],
    "coldstart_lenet5.csv": _coldstart(),
    "limit.csv": [
        {"contender": name, "pictures_per_s": 100.0, **_SHARE}
        for name in ("in process, threads", "1 worker, raw, 4 connections")
    ],
    "overload.csv": [{"figure": name, "median": 3.0, "low": 2.0, "high": 5.0} for name in _FIGURES],
    "peers.csv": [
        {"contender": name, "pictures_per_s": 100.0}
        | {f"{mode}_{end}": 1.5 for mode in ("exact", "fast") for end in ("over_it", "q1", "q3")}
        for name in ("ours, exact", "ours, fast", "mosec", "best peer")
    ],
    "precision_lenet5.csv": _precision(),
    "profile.csv": profile.rows(
        {each: {who: [1.0, 2.0] for who in profile.PARTS} for each in profile.TRANSPORTS}
    ),
    "preprocessing.csv": [
        {"picture": "a cat", "interpolation": "bicubic", "contender": contender, **_RATIO}
        for contender in ("reference", "exact", "fast")
    ],
}

ROWS["loadtest.csv"] = [
    {"second": second, "users": 4, "answers_per_s": 10.0 + second, "failures_per_s": 0}
    | {"p50_ms": 20.0, "p99_ms": 50.0 + second, "judged": int(second > 3)}
    for second in range(9)
]
ROWS["soak.csv"] = [
    {"minute": float(minute), "what": what, "took_s": ""}
    | dict.fromkeys(("rss_mb", "files", "threads"), 9.0 if what.startswith("worker") else "")
    | dict.fromkeys(("right_per_s", "refused_per_s", "p50_ms", "p99_ms"), "")
    | given
    for minute in range(6)
    for what, given in (
        ("worker 1", {}),
        ("worker 2", {}),
        ("traffic", {"right_per_s": 5.0 + minute, "refused_per_s": 1.0, "p50_ms": 7.0}),
        ("event: burst", {"took_s": 5.0}),
    )
]
