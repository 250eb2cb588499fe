from google.rpc import status_pb2 as _status_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Exif(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EXIF_APPLY: _ClassVar[Exif]
    EXIF_IGNORE: _ClassVar[Exif]
EXIF_APPLY: Exif
EXIF_IGNORE: Exif

class ClassifyRequest(_message.Message):
    __slots__ = ("images", "model", "version", "protocol", "top_k", "exif", "id")
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    EXIF_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    images: _containers.RepeatedScalarFieldContainer[bytes]
    model: str
    version: str
    protocol: str
    top_k: int
    exif: Exif
    id: str
    def __init__(self, images: _Optional[_Iterable[bytes]] = ..., model: _Optional[str] = ..., version: _Optional[str] = ..., protocol: _Optional[str] = ..., top_k: _Optional[int] = ..., exif: _Optional[_Union[Exif, str]] = ..., id: _Optional[str] = ...) -> None: ...

class ClassifyResponse(_message.Message):
    __slots__ = ("id", "results", "error")
    ID_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    id: str
    results: _containers.RepeatedCompositeFieldContainer[Result]
    error: _status_pb2.Status
    def __init__(self, id: _Optional[str] = ..., results: _Optional[_Iterable[_Union[Result, _Mapping]]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ...) -> None: ...

class Result(_message.Message):
    __slots__ = ("classification", "error")
    CLASSIFICATION_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    classification: Classification
    error: _status_pb2.Status
    def __init__(self, classification: _Optional[_Union[Classification, _Mapping]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ...) -> None: ...

class Classification(_message.Message):
    __slots__ = ("model", "version", "protocol", "predictions", "timing_ms", "random_weights")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    PREDICTIONS_FIELD_NUMBER: _ClassVar[int]
    TIMING_MS_FIELD_NUMBER: _ClassVar[int]
    RANDOM_WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    protocol: str
    predictions: _containers.RepeatedCompositeFieldContainer[Prediction]
    timing_ms: Timing
    random_weights: bool
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ..., protocol: _Optional[str] = ..., predictions: _Optional[_Iterable[_Union[Prediction, _Mapping]]] = ..., timing_ms: _Optional[_Union[Timing, _Mapping]] = ..., random_weights: _Optional[bool] = ...) -> None: ...

class Prediction(_message.Message):
    __slots__ = ("rank", "index", "synset", "label", "probability")
    RANK_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    SYNSET_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    rank: int
    index: int
    synset: str
    label: str
    probability: float
    def __init__(self, rank: _Optional[int] = ..., index: _Optional[int] = ..., synset: _Optional[str] = ..., label: _Optional[str] = ..., probability: _Optional[float] = ...) -> None: ...

class Timing(_message.Message):
    __slots__ = ("decode", "preprocess", "queue", "inference", "total")
    DECODE_FIELD_NUMBER: _ClassVar[int]
    PREPROCESS_FIELD_NUMBER: _ClassVar[int]
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    INFERENCE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    decode: float
    preprocess: float
    queue: float
    inference: float
    total: float
    def __init__(self, decode: _Optional[float] = ..., preprocess: _Optional[float] = ..., queue: _Optional[float] = ..., inference: _Optional[float] = ..., total: _Optional[float] = ...) -> None: ...

class ListModelsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("default_model", "models")
    DEFAULT_MODEL_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    default_model: str
    models: _containers.RepeatedCompositeFieldContainer[Model]
    def __init__(self, default_model: _Optional[str] = ..., models: _Optional[_Iterable[_Union[Model, _Mapping]]] = ...) -> None: ...

class Model(_message.Message):
    __slots__ = ("name", "version", "state", "reason", "classes", "protocols", "random_weights")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    PROTOCOLS_FIELD_NUMBER: _ClassVar[int]
    RANDOM_WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    state: str
    reason: str
    classes: int
    protocols: _containers.RepeatedScalarFieldContainer[str]
    random_weights: bool
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., state: _Optional[str] = ..., reason: _Optional[str] = ..., classes: _Optional[int] = ..., protocols: _Optional[_Iterable[str]] = ..., random_weights: _Optional[bool] = ...) -> None: ...
