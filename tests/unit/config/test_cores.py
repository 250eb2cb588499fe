"""How many cores a process may use: those of its mask, and no more than its container's quota."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from service.config import cpus


@pytest.mark.parametrize(
    ("content", "cores"),
    [
        ("max 100000", 64),
        ("200000 100000", 2),
        ("250000 100000", 2),
        ("50000 100000", 1),  # half a core needs a thread all the same
        ("12800000 100000", 64),
        ("nonsense", 64),
    ],
)
def test_a_container_has_no_more_than_its_quota(
    content: str, cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpus, "_CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    (tmp_path / "cpu.max").write_text(content)
    assert cpus.available_cores() == cores


@pytest.mark.parametrize(("quota", "cores"), [("-1", 64), ("300000", 3), ("1000", 1)])
def test_so_it_is_with_the_first_version_of_control_groups(
    quota: str, cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpus, "_CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text(quota)
    (tmp_path / "cpu/cpu.cfs_period_us").write_text("100000")
    assert cpus.available_cores() == cores
