"""The Bento's own image: `bentoml build`, then `bentoml containerize --backend buildah`."""

from __future__ import annotations

import subprocess
import sys
import tempfile

from tests.image import store
from tests.paths import ROOT


def build(tag: str) -> None:
    """As docs/docker.md says it, with buildah in the place of Docker."""
    with tempfile.TemporaryDirectory() as home:
        _build(tag, home)


def _build(tag: str, home: str) -> None:
    environment = {**store.environment(), "BENTOML_HOME": home, "BENTOML_DO_NOT_TRACK": "True"}
    bentoml = [sys.executable, "-m", "bentoml"]
    built = subprocess.run(
        [*bentoml, "build", "--output", "tag", str(ROOT)],
        env=environment,
        check=True,
        text=True,
        stdout=subprocess.PIPE,
    )
    bento = built.stdout.strip().removeprefix("__tag__:")
    # in a chroot there is no cgroup to make; nothing is pulled, the base lies in the storage
    options = ["--opt", "pull-never", "--opt", "format=docker"]
    subprocess.run(
        [*bentoml, "containerize", bento, "--backend", "buildah", "-t", tag, *options],
        env=environment,
        check=True,
    )
    if not store.exists(f"localhost/{tag}"):
        raise RuntimeError(f"bentoml containerize made no image {tag}")
