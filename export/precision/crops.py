"""Draw varied crops with a seed: some to calibrate on, others, of other pictures, to measure on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageEnhance, ImageFilter

from export.data import dataset
from export.errors import ExportError
from export.spec import LabelSet
from service.errors import ZooError
from service.imaging.decode import decode
from service.manifest import Input

Crops = npt.NDArray[np.uint8]
"""uint8 [N, H, W, C], as the graph takes them."""

_CALIBRATION = {
    "skimage.data": (
        "astronaut.png",
        "brick.png",
        "camera.png",
        "cell.png",
        "clock_motion.png",
        "coins.png",
        "grass.png",
        "gravel.png",
        "hubble_deep_field.jpg",
        "ihc.png",
        "moon.png",
        "motorcycle_left.png",
        "retina.jpg",
    ),
    "sklearn.datasets.images": ("flower.jpg",),
}
_MEASURE = {
    "matplotlib": ("mpl-data/sample_data/grace_hopper.jpg",),
    "skimage.data": ("chelsea.png", "coffee.png", "rocket.jpg"),
    "sklearn.datasets.images": ("china.jpg",),
}
"""No photograph stands in both sets; motorcycle_right, the left one's twin, in neither."""

_MIN_AREA, _HARD_MIN_AREA = 0.25, 0.08
"""Least share of the picture in a random crop; that of hard ones is torchvision's in training."""
_ASPECT = (3 / 4, 4 / 3)

_MOST, _FEWEST = 1000, 10
"""Most and fewest pictures of a calibration folder."""
_SIDE = 640
"""Longest side in pixels that such pictures are reduced to."""


@dataclass(frozen=True)
class Sources:
    """Two sets of pictures, to calibrate and to measure on, and what the manifest says of them."""

    calibration: Sequence[Image.Image]
    measure: Sequence[Image.Image]
    words: str
    """Describes the pictures to calibrate on."""
    measured_words: str


def sources(labels: LabelSet, folder: Path | None = None) -> Sources:
    """Return the packaged pictures of that kind, or those below ``folder``.

    Of a folder every fifth picture is to measure on.

    Raises ExportError when the folder has fewer than ten pictures that can be read.
    """
    if folder is not None:
        found = _below(folder)
        measure = found[::5]
        calibration = [picture for index, picture in enumerate(found) if index % 5]
        return Sources(
            calibration,
            measure,
            f"{len(calibration)} pictures of a folder, augmented",
            f"{len(measure)} other pictures of the same folder",
        )
    if labels == "digits":
        from export.data.digits import split

        trained, held_out = split()
        return Sources(
            [decode(data) for data in trained.pictures[:400]],
            [decode(data) for data in held_out.pictures],
            "400 handwritten digits of scikit-learn, augmented",
            f"{len(held_out.pictures)} other digits of scikit-learn",
        )
    calibration = [decode(data) for data in _packaged(_CALIBRATION)]
    words = f"{len(calibration)} photographs of scikit-image and scikit-learn, augmented"
    measure = [decode(data) for data in _packaged(_MEASURE)]
    others = f"{len(measure)} other photographs of scikit-image, scikit-learn and matplotlib"
    return Sources(calibration, measure, words, others)


def draw(
    sources: Sequence[Image.Image], size: Input, count: int, seed: int, *, hard: bool = True
) -> Crops:
    """Draw ``count`` crops uint8 [N, H, W, C] from the pictures in turn.

    Each is a random resized crop (area a quarter to the whole, aspect 3/4 to 4/3), mirrored half
    of the time; two in five get another brightness, contrast or colour. ``hard`` ones are cut from
    an area of 8 % on, one in seven is blurred, and one in ten has a rectangle of another picture
    in it (CutMix, Yun et al. 2019, https://arxiv.org/abs/1905.04899). The same seed gives the
    same crops.
    """
    generator = np.random.default_rng(seed)
    crops = []
    for index in range(count):
        crop = _crop(sources[index % len(sources)], size, generator, hard=hard)
        if hard and generator.random() < 0.1:
            other = sources[int(generator.integers(len(sources)))]
            crop = _mix(crop, _crop(other, size, generator, hard=hard), generator)
        crops.append(_pixels(crop, size))
    return np.stack(crops)


def _crop(
    picture: Image.Image, size: Input, generator: np.random.Generator, *, hard: bool
) -> Image.Image:
    area = (
        picture.width * picture.height * generator.uniform(_HARD_MIN_AREA if hard else _MIN_AREA, 1)
    )
    aspect = np.exp(generator.uniform(*np.log(_ASPECT)))
    width = min(picture.width, max(1, round((area * aspect) ** 0.5)))
    height = min(picture.height, max(1, round((area / aspect) ** 0.5)))
    left = int(generator.integers(picture.width - width + 1))
    top = int(generator.integers(picture.height - height + 1))
    crop = picture.resize(
        (size.width, size.height),
        Image.Resampling.BICUBIC,
        box=(left, top, left + width, top + height),
    )
    if generator.random() < 0.5:
        crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        if generator.random() < 0.4:
            crop = enhance(crop).enhance(generator.uniform(0.6, 1.4))
    if hard and generator.random() < 0.15:
        crop = crop.filter(ImageFilter.GaussianBlur(generator.uniform(0.3, 1.5)))
    return crop


def _mix(crop: Image.Image, other: Image.Image, generator: np.random.Generator) -> Image.Image:
    share = generator.uniform(0.3, 0.6)
    width, height = round(crop.width * share), round(crop.height * share)
    left = int(generator.integers(crop.width - width + 1))
    top = int(generator.integers(crop.height - height + 1))
    mixed = crop.copy()
    box = (left, top, left + width, top + height)
    mixed.paste(other.crop(box), box)
    return mixed


def _pixels(crop: Image.Image, size: Input) -> Crops:
    pixels = np.asarray(crop.convert("L" if size.channels == 1 else "RGB"))
    return pixels.reshape(size.height, size.width, size.channels)


def _packaged(names: dict[str, tuple[str, ...]]) -> Iterable[bytes]:
    for package, files in names.items():
        for name in files:
            yield resources.files(package).joinpath(name).read_bytes()


def _below(folder: Path) -> list[Image.Image]:
    """Return the pictures below ``folder``, in the order of their names; at most ``_MOST``."""
    if not folder.is_dir():
        raise ExportError(f"there is no folder {folder}")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in dataset.SUFFIXES)
    step = max(1, len(paths) / _MOST)
    found = []
    for index in range(min(len(paths), _MOST)):
        path = paths[int(index * step)]
        try:
            picture = decode(path.read_bytes())
        except (OSError, ZooError) as error:
            raise ExportError(f"{path} cannot be read: {error}") from error
        picture.thumbnail((_SIDE, _SIDE))  # memory; crops are smaller
        found.append(picture)
    if len(found) < _FEWEST:
        raise ExportError(f"{folder} has {len(found)} pictures, needed are {_FEWEST}")
    return found
