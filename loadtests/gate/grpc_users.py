"""Users of gRPC, by the generated stubs: calls, streams, the Open Inference Protocol.

gRPC's core does not use Python's sockets, so gevent cannot patch it: `init_gevent` lets it run in
gevent's loop instead, and must come before the first channel.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from queue import SimpleQueue
from time import perf_counter, time
from typing import Any

import grpc
import grpc.experimental.gevent
from google.rpc import error_details_pb2, status_pb2
from locust import User, task

from loadtests.gate import options
from loadtests.gate.http_users import CLASSES, prefixed
from loadtests.gate.material import Material
from service.transports.grpc.protos import classifier_pb2 as messages
from service.transports.grpc.protos import classifier_pb2_grpc, oip_pb2, oip_pb2_grpc
from service.transports.grpc.status import DETAILS_KEY

grpc.experimental.gevent.init_gevent()

TIMEOUT_S = 60.0
STREAMED = 8
"""How many requests a stream has."""
UNDER_WAY = 2
"""How many requests of a stream are unanswered at a time."""


class CallError(Exception):
    """A call that failed: its status, and the stable code in its details."""


class GrpcClassifier(User):
    """A channel of its own for each user; two of four deeds are plain calls."""

    material: Material
    abstract = False

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._numbers = count(1)
        chosen = self.material.options
        key = options.key(chosen)
        self._metadata = (("authorization", f"Bearer {key}"),) if key else ()
        own = [("grpc.use_local_subchannel_pool", 1)]
        address = options.grpc_address(chosen)
        if options.is_secure(chosen):
            trusted = Path(chosen.server_ca).read_bytes() if chosen.server_ca else None
            self._channel = grpc.secure_channel(
                address, grpc.ssl_channel_credentials(trusted), options=own
            )
        else:
            self._channel = grpc.insecure_channel(address, options=own)
        self._classifier = classifier_pb2_grpc.ClassifierStub(self._channel)
        self._inference = oip_pb2_grpc.GRPCInferenceServiceStub(self._channel)

    def on_stop(self) -> None:
        """Hang up."""
        self._channel.close()

    def wait_time(self) -> float:
        """Return the seconds of a pause."""
        return self.material.think_s()

    @task(2)
    def classify(self) -> None:
        """Send one picture in one call."""
        protocol = self.material.protocol()
        self._call(f"Classify {protocol}", self._classifier.Classify, self._request(protocol))

    @task(1)
    def infer(self) -> None:
        """Send one picture by the Open Inference Protocol."""
        protocol = self.material.protocol()
        request = oip_pb2.ModelInferRequest(
            model_name=f"{self.material.options.model}.topk",
            raw_input_contents=[prefixed(self.material.picture())],
        )
        request.inputs.add(name="image", datatype="BYTES", shape=[1])
        request.parameters["protocol"].string_param = protocol
        request.parameters["top_k"].int64_param = CLASSES
        self._call(f"ModelInfer {protocol}", self._inference.ModelInfer, request)

    @task(1)
    def stream(self) -> None:
        """Send pictures through one stream; each counts, from its sending to its answer."""
        name = f"ClassifyStream {self.material.protocol()}"
        protocol = name.split()[1]
        waiting: dict[str, float] = {}
        allowed: SimpleQueue[bool] = SimpleQueue()
        for _ in range(UNDER_WAY):
            allowed.put(True)

        def requests() -> Iterator[messages.ClassifyRequest]:
            for _ in range(STREAMED):
                if not allowed.get():
                    return
                request = self._request(protocol)
                request.id = str(next(self._numbers))
                waiting[request.id] = perf_counter()
                yield request

        try:
            answers = self._classifier.ClassifyStream(
                requests(), timeout=TIMEOUT_S, metadata=self._metadata
            )
            for answer in answers:
                failure = answer.error if answer.HasField("error") else answer.results[0].error
                error = CallError(described(failure)) if failure.code else None
                self._note(name, waiting.pop(answer.id), answer, error)
                allowed.put(True)
        except grpc.RpcError as failed:
            allowed.put(False)
            for begun in waiting.values():
                self._note(name, begun, None, error_of(failed))

    def _request(self, protocol: str) -> messages.ClassifyRequest:
        return messages.ClassifyRequest(
            images=[self.material.picture()],
            model=self.material.options.model,
            protocol=protocol,
            top_k=CLASSES,
        )

    def _call(self, name: str, method: Any, request: Any) -> None:
        begun = perf_counter()
        try:
            answer = method(request, timeout=TIMEOUT_S, metadata=self._metadata)
        except grpc.RpcError as failed:
            self._note(name, begun, None, error_of(failed))
        else:
            self._note(name, begun, answer, None)

    def _note(self, name: str, begun: float, answer: Any, error: Exception | None) -> None:
        """Report a request that has ended to Locust."""
        taken_s = perf_counter() - begun
        self.environment.events.request.fire(
            request_type="gRPC",
            name=name,
            response_time=taken_s * 1e3,
            response_length=answer.ByteSize() if answer is not None else 0,
            response=answer,
            context=self.context(),
            exception=error,
            start_time=time() - taken_s,
        )


def error_of(failed: Any) -> CallError:
    """Return the error that Locust shows for a failed call, equal for calls that fail alike."""
    for key, value in failed.trailing_metadata() or ():
        if key == DETAILS_KEY:
            return CallError(described(status_pb2.Status.FromString(value)))
    return CallError(f"{failed.code().name} {failed.details()}"[:200])


def described(status: Any) -> str:
    """Return the canonical code of a google.rpc.Status and the stable one in its details."""
    known = {code.value[0]: code.name for code in grpc.StatusCode}
    info = error_details_pb2.ErrorInfo()
    for detail in status.details:
        if detail.Unpack(info):
            return f"{known[status.code]} {info.reason}"
    return known[status.code]
