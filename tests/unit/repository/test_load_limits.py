"""What a repository may hold that would keep a load from ending, or a worker from anything else."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from service.dataplane.dataplane import DataPlane
from service.errors import NotReady
from service.manifest import FILE_NAME, EnsembleManifest, Manifest, RefusedModelError, sha256_of
from service.repository import loader, versions_on_disk
from service.repository.servable import Refusal
from service.repository.versions_on_disk import Version
from tests.harness.copies import copy_of
from tests.harness.edited_versions import resign
from tests.unit.repository.test_loader import ask, started


def endless_loop(folder: Path) -> None:
    """Let the first value of the pixels go through a loop whose condition never changes."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go_on"], ["still"]),
            helper.make_node("Identity", ["before"], ["after"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("before", TensorProto.UINT8, None),
        ],
        [
            helper.make_tensor_value_info("still", TensorProto.BOOL, []),
            helper.make_tensor_value_info("after", TensorProto.UINT8, None),
        ],
    )
    before_all(folder, [helper.make_node("Loop", ["", "true", "pixels"], ["slow"], body=body)])


def huge_node(folder: Path) -> None:
    """Let one node compute for seconds, which nothing can end: a product of large matrices."""
    nodes = [
        helper.make_node("ReduceMin", ["pixels"], ["least"], keepdims=0),
        helper.make_node("Cast", ["least"], ["number"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["number", "naught"], ["small"]),
        helper.make_node("Expand", ["small", "shape"], ["matrix"]),
        helper.make_node("MatMul", ["matrix", "matrix"], ["product"]),
        helper.make_node("ReduceMax", ["product"], ["zero"], keepdims=0),
        helper.make_node("Cast", ["zero"], ["nothing"], to=TensorProto.UINT8),
        helper.make_node("Add", ["nothing", "pixels"], ["slow"]),
    ]
    constants = {"naught": np.float32(0), "shape": np.array([8000, 8000], np.int64)}
    before_all(folder, nodes, constants)


def before_all(folder: Path, nodes: list, constants: dict | None = None) -> None:
    """Let the graph of a LeNet-5 take the value `slow`, which these nodes make of `pixels`."""
    model = onnx.load(folder / "model.onnx")
    for node in model.graph.node:
        node.input[:] = ["slow" if each == "pixels" else each for each in node.input]
    for name, value in (constants or {"true": np.array(True)}).items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    for node in reversed(nodes):
        model.graph.node.insert(0, node)
    onnx.save(model, folder / "model.onnx")
    resign(folder, "model.onnx")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The default model, one without end, and another."""
    for name in ("default", "endless", "other"):
        copy_of("lenet5", tmp_path / "models", name)
    endless_loop(tmp_path / "models" / "endless" / "1")
    return tmp_path / "models"


def reason(plane: DataPlane, name: str) -> str:
    (model,) = plane.catalog.versions(name)
    assert isinstance(model, Refusal)
    return model.reason


async def test_a_graph_without_end_is_refused_and_the_next_one_loads(folder: Path) -> None:
    async with started(folder, load_timeout_ms=6000) as plane:
        slow = asyncio.ensure_future(ask(plane, "endless"))
        await asyncio.sleep(0)
        assert (await ask(plane, "other")).model == "other"
        with pytest.raises(NotReady, match=r"not loaded within 6 s \(ZOO_LOAD_TIMEOUT_MS\)"):
            await slow
        assert "may have no end" in reason(plane, "endless")
        assert (await ask(plane, "default")).model == "default"


async def test_a_stop_ends_a_load_that_is_under_way(folder: Path) -> None:
    async with started(folder) as plane:
        slow = asyncio.ensure_future(ask(plane, "endless"))
        while not plane.catalog.versions("endless")[0].loading:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        before = time.monotonic()
    assert time.monotonic() - before < 0.5 * loader.LOAD_SECONDS
    with pytest.raises(NotReady, match="stopping"):
        await slow


async def test_others_load_while_a_node_computes_that_nothing_can_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("default", "huge", "other"):
        copy_of("lenet5", tmp_path / "models", name)
    huge_node(tmp_path / "models" / "huge" / "1")
    monkeypatch.setattr(loader, "TERMINATION_SECONDS", 0.1)
    async with started(tmp_path / "models") as plane:
        monkeypatch.setattr(loader, "LOAD_SECONDS", 3)
        with pytest.raises(NotReady, match="not loaded within"):
            await ask(plane, "huge")
        monkeypatch.setattr(loader, "LOAD_SECONDS", 60)
        assert "cannot be ended" in caplog.text
        assert (await ask(plane, "other")).model == "other"


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def zeros(path: Path) -> None:
    """A link to what has no end."""
    path.unlink()
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("make", [fifo, zeros])
def test_a_manifest_that_is_no_file_is_refused_unread(
    tmp_path: Path, make: Callable[[Path], object]
) -> None:
    path = copy_of("lenet5", tmp_path, "odd")
    make(path / FILE_NAME)
    with pytest.raises(RefusedModelError, match="is no regular file"):
        versions_on_disk.read(Version("odd", "1", path))


def test_a_file_that_is_a_fifo_is_refused_unread(tmp_path: Path) -> None:
    path = copy_of("lenet5", tmp_path, "odd")
    manifest = versions_on_disk.read(Version("odd", "1", path))
    assert isinstance(manifest, Manifest)
    empty = manifest.file("labels").model_copy(
        update={"bytes": 0, "sha256": sha256_of(empty_of(path))}
    )
    fifo(path / manifest.labels)
    with pytest.raises(RefusedModelError, match="is no regular file"):
        versions_on_disk.check_files(path, manifest.model_copy(update={"files": (empty,)}))


def empty_of(path: Path) -> Path:
    (path / "empty").touch()
    return path / "empty"


def changed(path: Path, **fields: Any) -> Manifest | EnsembleManifest:
    content = json.loads((path / FILE_NAME).read_text())
    content.update(fields)
    (path / FILE_NAME).write_text(json.dumps(content))
    return versions_on_disk.read(Version("odd", "1", path))


@pytest.mark.parametrize("classes", [100_000_000, 10**30])
def test_a_number_of_classes_that_nobody_trains_to_is_refused(tmp_path: Path, classes: int) -> None:
    path = copy_of("lenet5", tmp_path, "odd")
    with pytest.raises(RefusedModelError, match=r"classes: .*10000000"):
        changed(path, classes=classes)


def test_labels_are_counted_before_they_are_compared(tmp_path: Path) -> None:
    path = copy_of("lenet5", tmp_path, "odd")
    manifest = changed(path, classes=10_000_000)
    assert isinstance(manifest, Manifest)
    before = time.thread_time()
    with pytest.raises(RefusedModelError, match="0 to 9999999 in order"):
        versions_on_disk.labels(path, manifest)
    assert time.thread_time() - before < 0.1  # a list of as many numbers takes longer


@pytest.mark.parametrize("sides", [{"height": 10**9}, {"width": 65_536}])
def test_a_crop_that_no_picture_has_is_refused(tmp_path: Path, sides: dict[str, int]) -> None:
    path = copy_of("lenet5", tmp_path, "odd")
    size = json.loads((path / FILE_NAME).read_text())["input"] | sides
    with pytest.raises(RefusedModelError, match="less than or equal to 65535"):
        changed(path, input=size)
