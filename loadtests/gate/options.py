"""Add our options to the command line of Locust, and check them."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from locust.argument_parser import LocustArgumentParser
    from locust.env import Environment

MODEL = "efficientnet_lite0"
USERS = ("http", "oip", "grpc")
"""Kinds of users that ``--mix`` weighs."""
GRPC_PORT = 3001
KEY_VARIABLE = "ZOO_API_KEY"
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp"})
PACKAGED = {
    "skimage": ("data/astronaut.png", "data/chelsea.png", "data/coffee.png", "data/rocket.jpg"),
    "sklearn": ("datasets/images/china.jpg", "datasets/images/flower.jpg"),
}
"""Photographs by package; the packages are not imported, which takes seconds."""


def add_to(parser: LocustArgumentParser) -> None:
    """Add our options, in groups."""
    group = parser.add_argument_group("Requests")
    group.add_argument("--pictures", default="", help="folder of pictures; default: packaged ones")
    group.add_argument("--model", default=MODEL, help=f"default: {MODEL}")
    group.add_argument(
        "--protocols", default="center", type=str, help="with weights: center=9,ten_crop=1"
    )
    group.add_argument("--mix", default="http=1", help="users by weight: http=2,oip=1,grpc=1")
    group.add_argument("--think-ms", type=float, default=0.0, help="mean pause between requests")
    where = parser.add_argument_group("Where the service is")
    where.add_argument("--grpc-host", default="", help="default: that of --host, port 3001")
    where.add_argument("--server-ca", default="", help="PEM file that vouches for the service")
    where.add_argument("--api-key", default="", help=f"or by the variable {KEY_VARIABLE}")
    ramp = parser.add_argument_group("Ramp, up to --users")
    ramp.add_argument("--warm-up-s", type=float, default=5.0, help="with the users of one step")
    ramp.add_argument("--steps", type=int, default=1, help="in which the users come")
    ramp.add_argument("--step-s", type=float, default=10.0, help="seconds between two steps")
    ramp.add_argument("--hold-s", type=float, default=30.0, help="seconds with all of them: judged")
    gate = parser.add_argument_group("What must hold, else the exit code is 1")
    gate.add_argument("--max-p99-ms", type=float, help="of the answers")
    gate.add_argument("--max-failure-ratio", type=float, help="failures / requests, 0 to 1")
    gate.add_argument("--min-rate", type=float, help="answers per second")
    gate.add_argument("--timeline", default="", help="CSV of every second; a plot is beside it")


def chosen(environment: Environment) -> Namespace:
    """Return the options of a run."""
    options: Namespace | None = environment.parsed_options
    assert options is not None  # noqa: S101
    return options


def check(options: Namespace) -> None:
    """Raise ValueError where an option cannot be used."""
    weights(options.mix, USERS)
    weights(options.protocols)
    if options.steps < 1 or min(options.step_s, options.warm_up_s, options.think_ms) < 0:
        raise ValueError("--steps is 1 at least, times are not negative")
    if options.hold_s < 2:
        raise ValueError("--hold-s is 2 at least: whole seconds are judged")


def weights(text: str, known: Sequence[str] = ()) -> dict[str, float]:
    """Read weights: ``a=2,b`` means 2 and 1. Raises ValueError for another name or no weight."""
    found: dict[str, float] = {}
    for part in text.split(","):
        name, _, weight = part.strip().partition("=")
        found[name] = float(weight or 1)
        if not name or found[name] < 0 or (known and name not in known):
            raise ValueError(f"{text!r}: names with weights, as a=2,b=1" + _of(known))
    if not any(found.values()):
        raise ValueError(f"{text!r}: every weight is 0")
    return found


def _of(known: Sequence[str]) -> str:
    return f", of {', '.join(known)}" if known else ""


def pictures(folder: str) -> list[bytes]:
    """The pictures of ``folder``, or the packaged ones. Raises ValueError for an empty folder."""
    if not folder:
        return [
            (_folder(package) / name).read_bytes()
            for package, names in PACKAGED.items()
            for name in names
        ]
    paths = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise ValueError(f"there is no picture in {folder}")
    return [path.read_bytes() for path in paths]


def _folder(package: str) -> Path:
    """Where a package lies. Raises ValueError where it is not installed."""
    found = find_spec(package)
    if found is None or found.origin is None:
        raise ValueError(f"without --pictures the package {package} is needed")
    return Path(found.origin).parent


def grpc_address(options: Namespace) -> str:
    """Host and port of gRPC."""
    if options.grpc_host:
        return str(options.grpc_host)
    host = urlsplit(options.host or "").hostname or "localhost"
    return f"[{host}]:{GRPC_PORT}" if ":" in host else f"{host}:{GRPC_PORT}"


def is_secure(options: Namespace) -> bool:
    """Whether both ports speak TLS."""
    return bool(options.server_ca) or urlsplit(options.host or "").scheme == "https"


def key(options: Namespace) -> str:
    """The key to show, or nothing. Not an option's default: Locust's pages show those."""
    return str(options.api_key) or os.environ.get(KEY_VARIABLE, "")
