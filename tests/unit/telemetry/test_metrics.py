"""Metrics: true over several workers, and bounded whatever clients send."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme

from service.transports import certificate


def test_when_a_certificate_expires(tmp_path: Path) -> None:
    authority = trustme.CA()
    soon = datetime.now(UTC).replace(microsecond=0) + timedelta(days=9)
    for name, end in (("good", soon), ("late", soon - timedelta(days=30))):
        issued = authority.issue_cert("zoo.example", not_after=end)
        path = tmp_path / f"{name}.pem"
        issued.private_key_and_cert_chain_pem.write_to_path(path)
    assert certificate.expiry(tmp_path / "good.pem", None) == soon.timestamp()
    assert certificate.expiry(tmp_path / "late.pem", None) == 0
