"""Serves gRPC's reflection in the versions v1alpha and v1, which differ only in their package.

grpcio-reflection 1.85 knows only v1alpha. Newer clients ask for v1 first.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool
from grpc_reflection.v1alpha import reflection, reflection_pb2

from service.transports.grpc.methods import Methods

_PACKAGE, _FILE = "grpc.reflection.v1", "grpc/reflection/v1/reflection.proto"
V1 = f"{_PACKAGE}.ServerReflection"
NAMES = (reflection.SERVICE_NAME, V1)
"""The names of both versions of the service."""
_METHOD = "ServerReflectionInfo"


def add(names: Iterable[str], methods: Methods) -> None:
    """Add both versions to ``methods``. They describe the services ``names`` and each other."""
    _describe()
    servicer = reflection.aio.ReflectionServicer((*names, *NAMES))
    handler = grpc.stream_stream_rpc_method_handler(
        cast(Any, servicer.ServerReflectionInfo),
        reflection_pb2.ServerReflectionRequest.FromString,
        reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    for name in NAMES:
        methods.add_registered_method_handlers(name, {_METHOD: handler})


def _describe() -> None:
    """Register the definition of v1, made from v1alpha's, unless some library has done so."""
    pool = descriptor_pool.Default()
    try:
        pool.FindServiceByName(V1)
    except KeyError:
        pool.Add(_of_v1(reflection_pb2.DESCRIPTOR))


def _of_v1(v1alpha: Any) -> descriptor_pb2.FileDescriptorProto:
    """Return the definition in grpc/reflection/v1/reflection.proto, made from that of v1alpha."""
    found = descriptor_pb2.FileDescriptorProto()
    v1alpha.CopyToProto(found)
    old, new = f".{found.package}.", f".{_PACKAGE}."
    found.name, found.package = _FILE, _PACKAGE
    found.options.Clear()
    found.options.go_package = "google.golang.org/grpc/reflection/grpc_reflection_v1"
    for message in found.message_type:
        for field in message.field:
            if field.HasField("type_name"):
                field.type_name = field.type_name.replace(old, new)
    for service in found.service:
        for method in service.method:
            method.input_type = method.input_type.replace(old, new)
            method.output_type = method.output_type.replace(old, new)
    return found
