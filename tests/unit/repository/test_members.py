"""What an ensemble takes from its members: labels, weights, and that one was never trained."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from loadtests.harness import marked
from service.errors import NotReady
from service.manifest import EnsembleManifest, Member
from service.repository.ensemble import weighted_mean
from tests.harness.planes import ask, started


def ensemble(folder: Path, name: str, *members: str) -> None:
    manifest = EnsembleManifest(
        kind="ensemble",
        name=name,
        version="1",
        description="x",
        classes=10,
        members=[Member(model=member) for member in members],
    )
    (folder / name / "1").mkdir(parents=True)
    (folder / name / "1" / "manifest.json").write_text(manifest.model_dump_json())


async def test_members_have_the_same_labels(tmp_path: Path) -> None:
    for name, version in (("default", 1), ("same", 1), ("other", 2)):
        marked.add(tmp_path, name, version)
    ensemble(tmp_path, "alike", "default", "same")
    ensemble(tmp_path, "unlike", "default", "other")
    async with started(tmp_path) as plane:
        assert (await ask(plane, "alike")).predictions[0].label.name == marked.label(1, 1)
        with pytest.raises(NotReady, match="the labels of other are not those of default"):
            await ask(plane, "unlike")


async def test_one_member_that_was_never_trained_is_said(tmp_path: Path) -> None:
    for name in ("default", "same", "random"):
        marked.add(tmp_path, name, 1)
    path = tmp_path / "random" / "1" / "manifest.json"
    content = json.loads(path.read_text())
    content["weights"]["source"] = "random"
    path.write_text(json.dumps(content))
    ensemble(tmp_path, "trained", "default", "same")
    ensemble(tmp_path, "mixed", "default", "random")
    async with started(tmp_path) as plane:
        for name, random in (("trained", False), ("random", True), ("mixed", True)):
            assert (await ask(plane, name)).random is random


def test_members_count_by_their_weights() -> None:
    answers = list(np.eye(3, dtype=np.float32))
    np.testing.assert_allclose(weighted_mean(answers, [5, 3, 2]), [0.5, 0.3, 0.2], atol=1e-7)
    np.testing.assert_array_equal(weighted_mean(answers[:1], [7]), answers[0])
