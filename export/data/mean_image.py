"""Read mean images: each pixel's mean over the training set (Krizhevsky et al. 2012, section 2).

A mean image is float32 [height, width, channels] in the colour order and the units of the
network's input. One that is larger than the crop, as Caffe's 256x256 are, loses its borders: the
part under the centre crop is subtracted from every crop, wherever in the picture it was cut.
"""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from export.errors import ExportError, OutputRefused, UnreadableMeanImage
from export.spec import Spec
from service.manifest import Input

FILE_NAME = "mean_image.npy"
_MAX = 255

MeanImage = npt.NDArray[np.float32]
"""float32 [height, width, channels], in the order ``Input.color``."""


def read(file: Path, spec: Spec) -> MeanImage:
    """Read the mean image for ``spec`` from a .npy file, cut to its crop.

    Raises ExportError where the network takes none, and UnreadableMeanImage as `read_for` does.
    """
    if not spec.mean_image:
        raise ExportError(f"{spec.name} subtracts no mean image")
    return read_for(file, spec.input)


def read_for(file: Path, input: Input) -> MeanImage:  # noqa: A002
    """Read the mean image of a .npy file, cut to the crop of ``input``.

    Raises UnreadableMeanImage when the file holds no array of numbers from 0 to 255 of this or a
    larger size.
    """
    try:
        array = np.load(file, allow_pickle=False)
    except OSError as error:
        reason = error.strerror or "it is no .npy file"
        raise UnreadableMeanImage(f"cannot read the mean image {file}: {reason}") from error
    except (ValueError, EOFError, MemoryError, BadZipFile) as error:
        raise UnreadableMeanImage(f"{file} is not a .npy file of numbers: {error}") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        raise UnreadableMeanImage(f"{file} is not a .npy file of numbers")
    height, width, channels = input.height, input.width, input.channels
    fits = array.ndim == 3 and array.shape[2] == channels
    if not fits or array.shape[0] < height or array.shape[1] < width:
        found, size = (
            "x".join(map(str, shape)) for shape in (array.shape, (height, width, channels))
        )
        raise UnreadableMeanImage(
            f"{file} is {found}: needed is {size}, or more in height and width"
        )
    if not (np.isfinite(array).all() and array.min() >= 0 and array.max() <= _MAX):
        raise UnreadableMeanImage(f"{file} holds values that are no means of pixels from 0 to 255")
    top, left = (array.shape[0] - height) // 2, (array.shape[1] - width) // 2
    cut = array[top : top + height, left : left + width]
    return np.ascontiguousarray(cut, dtype=np.float32)


def with_mean(spec: Spec, mean: MeanImage) -> Spec:
    """Return ``spec`` with the mean image in its input: see `rules`."""
    return dataclasses.replace(spec, input=rules(spec.input, mean))


def rules(input: Input, mean: MeanImage) -> Input:  # noqa: A002
    """Return ``input`` with each channel's mean of the mean image.

    A dense form subtracts these, because it has no size of its own.
    """
    channels = tuple(float(value) for value in mean.mean(axis=(0, 1), dtype=np.float64))
    return input.model_copy(update={"mean": channels, "mean_image": FILE_NAME})


def write(mean: MeanImage, file: Path) -> None:
    """Write a mean image as .npy. Raises OutputRefused when the file cannot be written."""
    stream = io.BytesIO()
    np.save(stream, mean, allow_pickle=False)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(stream.getvalue())
    except OSError as error:
        raise OutputRefused(f"cannot write {file}: {error.strerror or error}") from error
