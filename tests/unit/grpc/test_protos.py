"""The committed stubs say what the protocol definitions say."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

from tests.paths import ROOT

PROTOS = sorted((ROOT / "service/transports/grpc/protos").glob("*.proto"))


@pytest.mark.parametrize("proto", PROTOS, ids=lambda path: path.stem)
def test_go_knows_where_each_package_belongs(proto: Path) -> None:
    """protoc-gen-go refuses a file without; files of one package must say the same."""
    descriptor = import_module(f"service.transports.grpc.protos.{proto.stem}_pb2").DESCRIPTOR
    folder, name = descriptor.GetOptions().go_package.split(";")
    assert folder == f"imagenet-zoo/{descriptor.package.replace('.', '/')}"
    assert name == descriptor.package.replace(".", "")
