"""Whatever a client sends, it gets the right problem, quickly, and the service lives on."""

from __future__ import annotations

from service import errors
from tests.paths import ROOT


def test_every_code_is_documented() -> None:
    page = (ROOT / "docs" / "api.md").read_text()
    for error in errors.ALL:
        assert f"| {error.http_status} | {error.grpc_status} | `{error.code}` |" in page
