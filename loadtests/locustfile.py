"""Locust users of the service over HTTP and gRPC, a ramp, and thresholds that make a verdict.

    locust -f loadtests/locustfile.py --headless --host http://localhost:3000 --users 8 \\
        --mix http=2,oip=1,grpc=1 --max-p99-ms 500 --max-failure-ratio 0 --min-rate 50

docs/loadtests.md says more. Locust takes the users and the ramp from the names of this module.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from locust import events
from locust.env import Environment
from locust.runners import WorkerRunner

from loadtests.gate import options, timeline, verdict
from loadtests.gate.grpc_users import GrpcClassifier
from loadtests.gate.http_users import HttpClassifier, OipClassifier
from loadtests.gate.material import Material
from loadtests.gate.per_second import PerSecond
from loadtests.gate.ramp import Ramp

__all__ = ["GrpcClassifier", "HttpClassifier", "OipClassifier", "Ramp"]

KINDS: dict[str, Any] = {"http": HttpClassifier, "oip": OipClassifier, "grpc": GrpcClassifier}

events.init_command_line_parser.add_listener(options.add_to)


@events.init.add_listener  # type: ignore[untyped-decorator]
def begin(environment: Environment, **_: Any) -> None:
    """Choose the users as the options ask, and count from the first request on."""
    per_second = PerSecond()
    per_second.listen(environment)
    if isinstance(environment.runner, WorkerRunner):
        return
    chosen = options.chosen(environment)
    try:
        options.check(chosen)
        mix = options.weights(chosen.mix, options.USERS)
    except ValueError as error:
        sys.exit(f"locustfile: {error}")
    for name, kind in KINDS.items():
        kind.weight = mix.get(name, 0)
    environment.user_classes = [kind for kind in environment.user_classes if kind.weight]
    environment.events.quitting.add_listener(lambda **_: end(environment, per_second))


@events.test_start.add_listener  # type: ignore[untyped-decorator]
def read(environment: Environment, **_: Any) -> None:
    """Read the pictures, in every process; a worker has its master's options by now."""
    try:
        material = Material(options.chosen(environment))
    except ValueError as error:
        if environment.web_ui is not None:
            raise  # whoever sits before the page may try again
        sys.exit(f"locustfile: {error}")
    for kind in KINDS.values():
        kind.material = material


def end(environment: Environment, per_second: PerSecond) -> None:
    """Write the time line, and say at last what came of it and whether it passed."""
    chosen, ramp = options.chosen(environment), environment.shape_class
    assert isinstance(ramp, Ramp)  # noqa: S101
    if chosen.timeline and (rows := timeline.rows(per_second, ramp)):
        timeline.write(Path(chosen.timeline), rows)
    found = verdict.held(per_second, ramp.held_from, min(ramp.held_to, time.time()))
    said = [str(found or "no second was judged")]
    if verdict.has_thresholds(chosen):
        reasons = list(verdict.reasons(found, chosen))
        said.append("FAIL: " + "; ".join(reasons) if reasons else "pass")
        environment.process_exit_code = int(bool(reasons))
    environment.events.quit.add_listener(lambda **_: print(*said, sep="\n", flush=True))
