"""The command: ``python -m loadtests.soak --minutes 60``."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from loadtests.harness import bench, server
from loadtests.soak import material, record, report
from loadtests.soak.run import Plan, Soak, run

DESCRIPTION = """Mixed traffic with known answers over HTTP and gRPC, and faults: clients that
leave, slow ones, bad pictures, oversized bodies, new versions, unloads, killed workers, bursts.
Every request is accounted for. Ends with 1 when one is unexplained, when memory grows, or when
the service did not follow."""


def main() -> int:
    """Run, write the report, print it; 0 where it passed."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.soak", description=DESCRIPTION)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--load", type=float, default=0.4, help="share of the highest rate")
    parser.add_argument("--rate", type=float, default=0.0, help="requests/s instead of --load")
    for what, seconds in (("swap", 20), ("unload", 30), ("kill", 300), ("burst", 240)):
        parser.add_argument(
            f"--{what}-every",
            type=float,
            default=seconds,
            metavar="SECONDS",
            dest=f"{what}_every_s",
        )
    parser.add_argument("--burst-seconds", type=float, default=5.0, dest="burst_s")
    parser.add_argument(
        "--warm-up", type=float, metavar="MINUTES", help="default: a third, 20 at most"
    )
    parser.add_argument("--pictures", type=int, default=material.PICTURES, help="different ones")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=bench.RESULTS / "soak.csv")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # nothing shall outlive it
    plan = Plan(**{field: getattr(args, field) for field in Plan._fields})
    # an hour after another, the eldest worker gained for 15 to 20 minutes what it then kept
    warm_up = min(20.0, plan.minutes / 3) if args.warm_up is None else args.warm_up
    try:
        soak = run(plan)
    except server.ServerFailed as failed:
        print(f"the service did not start: {failed}", file=sys.stderr)
        return 2
    text, reasons = report.write(
        args.output,
        record.timeline(soak.vitals, soak.chaos.events),
        record.accounts(soak.ledger),
        facts(plan, soak, warm_up),
        bench.machine("onnxruntime", "bentoml", "grpcio"),
    )
    print(text)
    print("FAIL: " + "; ".join(reasons) if reasons else "pass")
    return 1 if reasons else 0


def facts(plan: Plan, soak: Soak, warm_up_minutes: float) -> report.Facts:
    """What the report says beside its rows."""
    share = f"{plan.load:.0%} of the {soak.highest_rate:.0f} that they reached without pauses"
    return report.Facts(
        minutes=plan.minutes,
        rate=soak.rate,
        load=share if soak.highest_rate else "as asked for",
        warm_up_minutes=warm_up_minutes,
        seed=plan.seed,
        failures=soak.chaos.failures,
        unexplained=soak.ledger.unexplained,
        log=soak.log,
    )


if __name__ == "__main__":
    sys.exit(main())
