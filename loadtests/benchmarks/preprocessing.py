"""Time decoding and cropping against the reference, and prove that fast keeps its bounds.

    python -m loadtests.benchmarks.preprocessing

The reference is what evaluation scripts do: Pillow decodes, the whole picture is resized, the
crop is cut. One thread, whose own CPU time is counted; contenders take turns in short slices.
Results go to loadtests/results/.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from time import thread_time
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

import models
from loadtests.harness import plots
from loadtests.harness.bench import (
    RESULTS,
    alternate,
    machine,
    paired_ratio,
    spread,
    table,
    write_csv,
)
from loadtests.harness.photographs import jpeg, photographs, png, varied
from service.engine.session import Session
from service.imaging import kernels
from service.imaging.crops import Mode, decoded_side
from service.imaging.decode import decode_scaled
from service.imaging.protocols import PROTOCOLS
from service.manifest import Manifest

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Row = dict[str, object]
Pixels = npt.NDArray[np.uint8]

CENTER = PROTOCOLS["center"]
RESAMPLING = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
MODEL = "efficientnet_lite0"
LARGE = (4000, 3000)


class Proof(NamedTuple):
    """How far a mode is from the reference over a set of pictures."""

    pictures: int
    same_top1: float
    largest_lead_lost: float
    """The largest lead, in probability, that a first answer had before it changed."""
    mean_levels: float
    worst_mean_levels: float
    largest: int
    worst_share_off: float


def reference(data: bytes, manifest: Manifest) -> Pixels:
    """uint8 [224, 224, 3] as torchvision's Resize and CenterCrop make them of a PIL image."""
    rule, crop = manifest.resize, manifest.input.height
    picture = Image.open(io.BytesIO(data)).convert("RGB")
    short = min(picture.size)
    # torchvision truncates the longer side
    width, height = (
        rule.size if side == short else int(rule.size * side / short) for side in picture.size
    )
    resized = picture.resize((width, height), RESAMPLING[rule.interpolation])
    left, top = round((width - crop) / 2.0), round((height - crop) / 2.0)
    return np.asarray(resized.crop((left, top, left + crop, top + crop)))


def ours(data: bytes, manifest: Manifest, mode: Mode) -> Pixels:
    """Return the same crop as the service's data plane makes it."""
    at_least = decoded_side(CENTER.side(manifest)) if mode == "fast" else None
    (crops,) = CENTER.crops(decode_scaled(data, at_least), manifest)
    crop: Pixels = crops[0]
    return crop


def samples() -> dict[str, bytes]:
    """Return the pictures that are timed: name -> encoded bytes."""
    found = photographs()
    names = ("chelsea.png", "china.jpg", "flower.jpg")
    small = {f"{Path(name).stem} 500x375 JPEG": _sized(found[name], (500, 375)) for name in names}
    large = {f"{Path(name).stem} 12 MP JPEG": _sized(found[name], LARGE) for name in names}
    encoded = {name: jpeg(picture) for name, picture in (small | large).items()}
    return encoded | {"china 500x375 PNG": png(small["china 500x375 JPEG"])}


def _sized(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    return picture.resize(size, Image.Resampling.BICUBIC)


def speed(manifest: Manifest, rounds: int, slice_s: float) -> list[Row]:
    """Return each contender's milliseconds and ratios to the reference, for every sample."""
    rows: list[Row] = []
    for interpolation in ("bicubic", "bilinear"):
        rule = manifest.resize.model_copy(update={"interpolation": interpolation})
        model = manifest.model_copy(update={"resize": rule})
        for name, data in samples().items():
            contenders = _contenders(data, model)
            times = alternate(contenders, rounds, slice_s, thread_time)
            for contender in contenders:
                ratio = paired_ratio(times, contender, "reference")
                rows.append(
                    {
                        "picture": name,
                        "KB": round(len(data) / 1000),
                        "interpolation": interpolation,
                        "contender": contender,
                        "ms": 1e3 * spread(times[contender]).median,
                        "ratio": ratio.median,
                        "ratio_low": ratio.low,
                        "ratio_high": ratio.high,
                        "rounds": rounds,
                    }
                )
            print(table(rows[-len(contenders) :]).partition("\n")[2], flush=True)
    return rows


FLOOR = "decoded at 1/8"
"""For large JPEGs: what entropy coding costs any decoder, and hardly anything else."""


def floor(data: bytes) -> Image.Image:
    """Decode a JPEG at an eighth of its size: each block's mean, from all its coefficients."""
    image = Image.open(io.BytesIO(data))
    image.draft(None, (1, 1))
    image.load()
    return image


def _contenders(data: bytes, manifest: Manifest) -> dict[str, Callable[[], object]]:
    contenders: dict[str, Callable[[], object]] = {
        "reference": lambda: reference(data, manifest),
        "exact": lambda: ours(data, manifest, "exact"),
        "fast": lambda: ours(data, manifest, "fast"),
    }
    if Image.open(io.BytesIO(data)).size == LARGE:
        contenders[FLOOR] = lambda: floor(data)
    return contenders


def prove(pictures: Sequence[bytes], manifest: Manifest, session: Session, mode: Mode) -> Proof:
    """Compare crops and first answers of ``mode`` with those of the reference."""
    same, lost, levels, largest, shares = 0, 0.0, [], 0, []
    for data in pictures:
        expected, seen = reference(data, manifest), ours(data, manifest, mode)
        off = np.abs(seen.astype(int) - expected)
        levels.append(float(off.mean()))
        shares.append(float((off > 0).mean()))
        largest = max(largest, int(off.max()))
        before, after = session.run(np.stack([expected, seen])).probabilities
        if before.argmax() == after.argmax():
            same += 1
        else:
            second, first = np.sort(before)[-2:]
            lost = max(lost, float(first - second))
    count = len(pictures)
    return Proof(
        count, same / count, lost, float(np.mean(levels)), max(levels), largest, max(shares)
    )


def proofs(manifest: Manifest, session: Session, count: int) -> list[Row]:
    """Prove both modes on usual pictures, and on ones so large that fast decodes them scaled."""
    sets = {"as they come": [jpeg(picture) for picture in varied(count)]}
    for name, pixels in {"1.4 MP": 1_400_000, "12 MP": 12_000_000}.items():
        sets[name] = [jpeg(enlarged(p, pixels)) for p in varied(count // 4, seed=1)]
    rows: list[Row] = []
    for kind, pictures in sets.items():
        modes: tuple[Mode, ...] = ("exact", "fast")
        for mode in modes:
            proof = prove(pictures, manifest, session, mode)
            rows.append({"set": kind, "mode": mode, **proof._asdict()})
    return rows


def enlarged(picture: Image.Image, pixels: int) -> Image.Image:
    """Enlarge a picture to so many pixels in the same aspect."""
    scale = (pixels / (picture.width * picture.height)) ** 0.5
    return _sized(picture, (round(picture.width * scale), round(picture.height * scale)))


def draw(rows: plots.Rows) -> Figure:
    """Draw the ratios to the reference with their quartiles."""
    bars = [
        plots.Bar(
            f"{row['picture']}, {row['interpolation']}",
            plots.spread_of(row, "ratio", "ratio_low", "ratio_high"),
            row["contender"],
        )
        for row in rows
        if row["contender"] != "reference"
    ]
    figure, (axes,) = plots.panels(
        "Decoding and cropping against Pillow on whole pictures", [plots.height(bars)], rows
    )
    unit = "time ÷ reference (median of paired ratios, quartiles)"
    plots.bars(axes, bars, unit, target=1)
    return figure


def main() -> None:
    """Measure, prove, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=40, help="rounds per picture")
    parser.add_argument("--slice", type=float, default=0.05, help="seconds per slice")
    parser.add_argument("--pictures", type=int, default=800, help="pictures of the proof")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder to write to")
    chosen = parser.parse_args()
    if not kernels.available():
        parser.error("the extra `fast` is not installed: pip install '.[fast]'")

    folder = models.REPOSITORY / MODEL / "1"
    manifest = Manifest.model_validate_json((folder / "manifest.json").read_bytes())
    session = Session(folder / "model.onnx", manifest, ["cpu"])
    about = machine("pillow", "numba", "numpy")
    print("  ".join(f"{name}: {value}" for name, value in about.items()), flush=True)

    rows = speed(manifest, chosen.rounds, chosen.slice)
    plots.write(chosen.results / "preprocessing.csv", rows, about, draw)
    print(table(rows), flush=True)
    proved = proofs(manifest, session, chosen.pictures)
    write_csv(chosen.results / "preprocessing_proof.csv", proved, about)
    print(table(proved))


if __name__ == "__main__":
    main()
