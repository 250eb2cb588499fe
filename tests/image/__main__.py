"""Builds every image of the project, runs each as Docker would, and says what holds of it.

    make image-test                                   all
    python -m tests.image cpu bento cuda              these, by the environment of `make test`

Needs root and Debian's buildah, debootstrap and runc; no Docker engine, no registry of images.
What Dockerfiles start from is replaced: `tests.image.store.make_base`. No part of `make test`: it
takes minutes and some GB, which are given back but for the base.
"""

from __future__ import annotations

import sys
import time

from tests.image import bento, checks, store
from tests.image.container import Container, running
from tests.paths import ROOT

MEMORY = 6 << 30
"""Bytes; as deploy/compose.yaml."""
OWN_MODELS = ROOT / "models" / "lenet5"


def describe(image: str) -> None:
    layers = store.layers(image)
    checks.say("size, unpacked", f"{sum(layer.size for layer in layers) / store.MEGABYTE:.0f} MB")
    for layer in layers:
        made_by = layer.made_by.removeprefix("/bin/sh -c ").removeprefix("#(nop) ")
        checks.say("", f"{layer.size / store.MEGABYTE:6.0f} MB  {made_by[:70]}")


def common(container: Container, ids: tuple[int, int]) -> None:
    checks.becomes_ready(container)
    checks.has_no_privileges(container, ids)
    checks.answers(container)
    checks.writes_below_tmp_alone(container)


def ours(image: str) -> None:
    """What deploy/Dockerfile promises."""
    configuration = store.configuration(image)
    with running(image, memory=MEMORY) as container:
        common(container, (10001, 10001))
        checks.is_healthy(container, configuration["Healthcheck"]["Test"][1:])
        checks.replaces_a_worker(container)
        checks.peak_memory(container)
        checks.ends_on_sigterm(container, configuration["StopSignal"])
    print("- with two workers, models of one's own at /mine, another user's number")
    own = {OWN_MODELS: "/mine/lenet5"}
    settings = {"ZOO_MODELS": "/mine", "ZOO_DEFAULT_MODEL": "lenet5", "ZOO_WORKERS": "2"}
    with running(
        image, memory=MEMORY, environment=settings, mounts=own, ids=(4242, 0)
    ) as container:
        checks.becomes_ready(container)
        checks.has_no_privileges(container, (4242, 0))
        checks.answers(container, "lenet5")
        checks.ends_on_sigterm(container, "SIGTERM")


def cpu() -> None:
    """deploy/Dockerfile."""
    store.build("deploy/Dockerfile", "imagenet-zoo-server:cpu")
    describe("imagenet-zoo-server:cpu")
    ours("imagenet-zoo-server:cpu")


def bentos() -> None:
    """The image that BentoML makes of the Bento."""
    image = "imagenet-zoo-server:bento"
    bento.build(image)
    describe(image)
    home = {"BENTOML_HOME": "/tmp/bentoml"}  # the image's own is in its read-only part
    with running(image, memory=MEMORY, environment=home) as container:
        common(container, (1034, 1034))
        checks.replaces_a_worker(container)
        checks.ends_on_sigterm(container, "SIGTERM")


def cuda() -> None:
    """deploy/Dockerfile.gpu without TensorRT, on a machine without a GPU."""
    image = "imagenet-zoo-server:cuda"
    store.build("deploy/Dockerfile.gpu", image, "--build-arg", "TENSORRT=")
    describe(image)
    with running(image, memory=MEMORY) as container:
        common(container, (10001, 10001))
        checks.lacks_the_driver_alone(container)
        checks.ends_on_sigterm(container, "SIGTERM")


def main(names: list[str]) -> int:
    """Each of them, or these."""
    if missing := store.missing_programs():
        print(f"apt-get install {' '.join(missing)}", file=sys.stderr)
        return 2
    kinds = {"cpu": cpu, "bento": bentos, "cuda": cuda}
    store.make_base()
    for name in names or kinds:
        print(f"{name}: {kinds[name].__doc__}", flush=True)
        begin = time.monotonic()
        try:
            kinds[name]()
        finally:
            store.clean()
        checks.say("all of it in", f"{time.monotonic() - begin:.0f} s")
    print("image-test: passed")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
