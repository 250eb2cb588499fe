"""One family of errors: each is one line for the person at the terminal and an exit code."""

from __future__ import annotations

from typing import ClassVar


class ExportError(Exception):
    """The command cannot be done as asked; nothing was changed. The message is one line."""

    exit_code: ClassVar[int] = 2

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class UnknownNetwork(ExportError):
    """The registry has no network of that name."""


class WeightsUnavailable(ExportError):
    """No trained weights can be found without the user's help."""


class UnreadableWeights(ExportError):
    """The file is not a state dict, or holds more than tensors."""


class WeightsMismatch(ExportError):
    """The state dict belongs to another network: keys or shapes differ."""


class UnreadableMeanImage(ExportError):
    """The file holds no mean image, or one that does not fit the network."""


class OutputRefused(ExportError):
    """The models folder cannot be written, or the version is already there."""


class NotBuilt(ExportError):
    """The models folder has no such model, or what it has is not whole."""


class ForeignModelRefused(ExportError):
    """The ONNX file is no classifier that can be adopted."""


class ProofFailed(ExportError):
    """The ONNX file does not compute what the network computes."""

    exit_code = 1
