"""Locust users of POST /classify, with pictures from a folder.

    locust -f loadtests/locustfile.py --host http://localhost:3000 --pictures FOLDER

Without ``--pictures`` the photographs of scikit-image and scikit-learn are sent. An answer that
is not 200, or that has no predictions, counts as a failure.
"""

from __future__ import annotations

import random
from importlib import resources
from pathlib import Path
from typing import Any

from locust import HttpUser, constant, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp"})
PACKAGED = {
    "skimage.data": ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg"),
    "sklearn.datasets.images": ("china.jpg", "flower.jpg"),
}

_pictures: list[bytes] = []


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def add_options(parser: LocustArgumentParser) -> None:
    """``--pictures FOLDER`` and ``--ten-crop-share``."""
    parser.add_argument("--pictures", type=str, default="", help="folder of pictures to send")
    parser.add_argument(
        "--ten-crop-share", type=float, default=0.0, help="share of requests with ten_crop, 0 to 1"
    )


@events.test_start.add_listener  # type: ignore[untyped-decorator]
def read_pictures(environment: Environment, **_: Any) -> None:
    """Read every picture once, before the first request."""
    _pictures[:] = load(environment.parsed_options.pictures if environment.parsed_options else "")


def load(folder: str) -> list[bytes]:
    """The pictures of ``folder``, or the packaged ones. Raises ValueError for an empty folder."""
    if not folder:
        return [
            resources.files(package).joinpath(name).read_bytes()
            for package, names in PACKAGED.items()
            for name in names
        ]
    paths = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise ValueError(f"there is no picture in {folder}")
    return [path.read_bytes() for path in paths]


class Classifier(HttpUser):
    """Sends one picture after the other; three of four as a bare body, one as a form."""

    wait_time = constant(0)

    @task(3)
    def raw(self) -> None:
        """The picture is the body."""
        self._classify("raw", data=random.choice(_pictures))  # noqa: S311

    @task(1)
    def form(self) -> None:
        """The picture is a part of a form, as ``curl -F`` sends it."""
        self._classify("form", files={"image": random.choice(_pictures)})  # noqa: S311

    def _classify(self, way: str, **body: Any) -> None:
        ten = random.random() < self.environment.parsed_options.ten_crop_share  # noqa: S311
        protocol = "ten_crop" if ten else "center"
        with self.client.post(
            f"/classify?protocol={protocol}",
            name=f"/classify {way} {protocol}",
            catch_response=True,
            **body,
        ) as reply:
            if reply.status_code != 200:
                reply.failure(f"{reply.status_code} {reply.text[:200]}")
            elif not reply.json().get("predictions"):
                reply.failure("no predictions")
