"""gRPC with real clients: answers, errors, ids, health, reflection."""

from __future__ import annotations

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2

from service.errors import ALL, Overloaded
from service.transports.grpc import classifier
from service.transports.grpc.protos import classifier_pb2 as messages
from service.transports.grpc.status import status_of

PROTOCOLS = [("efficientnet_lite0", "center"), ("efficientnet_lite0", "ten_crop")]
PROTOCOLS += [("lenet5", "center")]


def test_every_error_has_a_status_of_its_row() -> None:
    for kind in ALL:
        status = status_of(kind("why"))
        assert status.code == grpc.StatusCode[kind.grpc_status].value[0]
    retry = error_details_pb2.RetryInfo()
    assert status_of(Overloaded("full", retry_after=3)).details[1].Unpack(retry)
    assert retry.retry_delay.seconds == 3


def test_a_request_keeps_its_pictures_and_not_the_message_that_holds_them_too() -> None:
    message = messages.ClassifyRequest(id="x", images=[b"one", b"two"], top_k=0)
    read = classifier.parsed(message.SerializeToString())
    assert read == ("x", "", "", "", 0, messages.EXIF_APPLY, [b"one", b"two"])
    assert classifier.parsed(b"").top_k is None
    assert not [value for value in read if isinstance(value, Message)]
