"""The committed stubs say what the protocol definitions say."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from importlib import import_module
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2

from tests.paths import ROOT

PROTOS = sorted((ROOT / "service/transports/grpc/protos").glob("*.proto"))


def without_json_names(file: descriptor_pb2.FileDescriptorProto) -> str:
    """The definition as text; compilers differ in whether they spell out JSON names."""
    return "\n".join(line for line in str(file).splitlines() if "json_name:" not in line)


@pytest.mark.parametrize("proto", PROTOS, ids=lambda path: path.stem)
def test_stubs_are_generated_from_the_protos(proto: Path, tmp_path: Path) -> None:
    compiled = tmp_path / "compiled"
    include = sysconfig.get_path("purelib")  # google/rpc of googleapis-common-protos
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT}", f"-I{include}"]
    name = str(proto.relative_to(ROOT))
    subprocess.run([*command, f"--descriptor_set_out={compiled}", name], cwd=ROOT, check=True)
    (expected,) = descriptor_pb2.FileDescriptorSet.FromString(compiled.read_bytes()).file
    module = import_module(f"service.transports.grpc.protos.{proto.stem}_pb2")
    stub = descriptor_pb2.FileDescriptorProto()
    module.DESCRIPTOR.CopyToProto(stub)
    assert without_json_names(stub) == without_json_names(expected)
