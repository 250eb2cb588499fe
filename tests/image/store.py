"""Images built by buildah, in a storage of their own below .image-test/.

No Docker engine and no registry is needed: Debian's buildah builds in a chroot, and what FROM
names is a stand-in (`base`) that lies in the storage under that name already.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

from tests.paths import ROOT

FOLDER = ROOT / ".image-test"
BASE = "docker.io/library/python:3.11-slim-bookworm"
PROGRAMS = ("buildah", "debootstrap", "runc")
MEGABYTE = 1_000_000


class Layer(NamedTuple):
    """One layer of an image."""

    size: int
    """Bytes, unpacked."""
    made_by: str


def missing_programs() -> list[str]:
    """Debian's packages that the test needs and that are not there."""
    return [name for name in PROGRAMS if shutil.which(name) is None]


def environment() -> dict[str, str]:
    """Of buildah and what calls it: which storage, and that the files alone are isolated."""
    FOLDER.mkdir(exist_ok=True)
    configuration = FOLDER / "storage.conf"
    configuration.write_text(
        f'[storage]\ndriver = "overlay"\ngraphroot = "{FOLDER}/storage"\nrunroot = "{FOLDER}/run"\n'
    )
    return {
        **os.environ,
        "CONTAINERS_STORAGE_CONF": str(configuration),
        "BUILDAH_ISOLATION": "chroot",
    }


def buildah(*arguments: str, quiet: bool = True) -> str:
    """What the command prints. Raises CalledProcessError after showing what went wrong."""
    done = subprocess.run(
        ["buildah", *arguments],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if not quiet else None,
        text=True,
        check=False,
    )
    if done.returncode:
        print(done.stdout[-6000:])
        done.check_returncode()
    return done.stdout.strip()


def exists(image: str) -> bool:
    return image in buildah("images", "--format", "{{.Name}}:{{.Tag}}").splitlines()


def build(file: str, tag: str, *options: str, context: Path = ROOT) -> None:
    """As `docker build -f FILE -t TAG`, from what is in the storage."""
    buildah(
        "bud", "--pull-never", "--layers", "--format", "docker", "--file", file, "--tag", tag,
        *options, str(context), quiet=False,
    )  # fmt: skip


def make_base() -> None:
    """What FROM names, as near as Debian has it: the same Python, in Debian's own packages.

    Python's image has it below /usr/local, and a newer pip; this one has the certificates that this
    machine trusts, so that pip reaches an index behind a proxy.
    """
    if exists(BASE):
        return
    root = FOLDER / "base" / "root"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    packages = "python3,python3-venv,python3-pip,ca-certificates"
    subprocess.run(
        ["debootstrap", "--variant=minbase", f"--include={packages}", "bookworm", str(root)],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    for name, target in {"python": "python3", "python3": "python3", "pip": "pip3"}.items():
        (root / "usr/local/bin" / name).symlink_to(f"/usr/bin/{target}")
    for marker in root.glob("usr/lib/python3*/EXTERNALLY-MANAGED"):
        marker.unlink()
    bundle = "etc/ssl/certs/ca-certificates.crt"
    shutil.copy(f"/{bundle}", root / bundle)
    for folder in ("var/cache/apt/archives", "var/lib/apt/lists"):
        shutil.rmtree(root / folder)
        (root / folder / "partial").mkdir(parents=True)
    file = FOLDER / "base" / "Containerfile"
    file.write_text(
        "FROM scratch\nADD root /\n"
        "ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin\n"
        f"ENV SSL_CERT_FILE=/{bundle} LANG=C.UTF-8\n"
        'CMD ["python3"]\n'
    )
    build(str(file), BASE, context=file.parent)
    shutil.rmtree(file.parent)


def configuration(image: str) -> dict[str, Any]:
    """What the image says of how it is run (OCI image specification, `config`)."""
    inspected = json.loads(buildah("inspect", "--type", "image", image))
    docker: dict[str, Any] = inspected["Docker"]["config"]
    return docker


def layers(image: str) -> list[Layer]:
    """From the base up."""
    inspected = json.loads(buildah("inspect", "--type", "image", image))["Docker"]
    stored = json.loads((FOLDER / "storage/overlay-layers/layers.json").read_text())
    sizes = {layer.get("diff-digest"): layer.get("diff-size", 0) for layer in stored}
    made_by = [h["created_by"] for h in inspected["history"] if not h.get("empty_layer")]
    return [
        Layer(sizes[digest], command)
        for digest, command in zip(inspected["rootfs"]["diff_ids"], made_by, strict=True)
    ]


def clean() -> None:
    """Remove every image but the base, and what was kept of their stages."""
    images = buildah("images", "--format", "{{.Name}}:{{.Tag}}").splitlines()
    for image in images:
        if "<none>" not in image and image != BASE:
            buildah("rmi", "--force", image)
    buildah("rmi", "--prune", "--force")
