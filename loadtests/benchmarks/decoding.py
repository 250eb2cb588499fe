"""Measure how much memory a picture takes while it is decoded.

    python -m loadtests.benchmarks.decoding

Each kind is decoded in a process of its own, whose highest resident memory beyond what it had
before is divided by the pixels. The command fails when a kind takes more than the memory ceiling
counts (`PICTURE_BYTES_PER_PIXEL` of `service.repository.memory_budget`). The encoded bytes are not
in it.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from loadtests.harness import bench
from loadtests.harness.photographs import photograph
from service.engine.allocator import give_back, return_large_blocks
from service.imaging.decode import decode
from service.repository.memory_budget import PICTURE_BYTES_PER_PIXEL

SIDES = (4000, 3000)
TURNED = Image.Exif()
TURNED[0x0112] = 6
"""An orientation that the service undoes, for which it takes a copy."""

_MODES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "16-bit gray": lambda rgb: rgb.convert("L").convert("I;16"),
    "RGB": lambda rgb: rgb,
    "RGBA": lambda rgb: rgb.convert("RGBA"),
    "CMYK": lambda rgb: rgb.convert("CMYK"),
    "palette": lambda rgb: rgb.quantize(256),
}
KINDS: dict[str, tuple[str, str, dict[str, object]]] = {
    "JPEG": ("JPEG", "RGB", {}),
    "JPEG, progressive": ("JPEG", "RGB", {"progressive": True, "subsampling": 0}),
    "JPEG, progressive CMYK, turned": ("JPEG", "CMYK", {"progressive": True, "exif": TURNED}),
    "PNG": ("PNG", "RGB", {"compress_level": 1}),
    "PNG, RGBA": ("PNG", "RGBA", {"compress_level": 1}),
    "PNG, 16-bit gray, turned": ("PNG", "16-bit gray", {"compress_level": 1, "exif": TURNED}),
    "PNG, palette": ("PNG", "palette", {"compress_level": 1}),
    "WebP": ("WEBP", "RGB", {"method": 0}),
    "WebP, lossless, turned": (
        "WEBP",
        "RGB",
        {"lossless": True, "quality": 0, "method": 0, "exif": TURNED},
    ),
    "WebP, lossless RGBA": ("WEBP", "RGBA", {"lossless": True, "quality": 0, "method": 0}),
    "GIF": ("GIF", "palette", {}),
    "BMP": ("BMP", "RGB", {}),
}
"""Format, mode and Pillow's options, by name."""


def encoded(kind: str, sides: tuple[int, int] = SIDES) -> bytes:
    """Encode a photograph of that size in pixels as that kind."""
    name, mode, options = KINDS[kind]
    picture = _MODES[mode](photograph("china.jpg").resize(sides))
    buffer = io.BytesIO()
    picture.save(buffer, name, **options)
    return buffer.getvalue()


def bytes_per_pixel(kind: str, sides: tuple[int, int] = SIDES) -> float:
    """Decode in a process of its own; return its peak of memory in bytes per pixel."""
    done = subprocess.run(
        [sys.executable, "-m", "loadtests.benchmarks.decoding", "--child"],
        input=encoded(kind, sides),
        capture_output=True,
        check=True,
    )
    return int(done.stdout) / (sides[0] * sides[1])


def _child() -> None:
    """Decode the picture on the standard input and print the most bytes that it took."""
    return_large_blocks()  # as the service does: what is freed is gone, not kept and used again
    data = sys.stdin.buffer.read()
    decode(encoded("JPEG", (64, 64)))  # what the first picture alone takes
    give_back()  # or the picture may lie where others were
    before = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the highest is the present from here on
    decode(data, max_pixels=10**9)
    sys.stdout.write(str(_resident("VmHWM") - before))


def _resident(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise LookupError(field)


def main() -> int:
    """Run, print the table, write the CSV; 1 when a kind takes more than is counted."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.benchmarks.decoding", description=__doc__
    )
    parser.add_argument("--output", type=Path, default=bench.RESULTS / "decoding.csv")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        _child()
        return 0
    found = {kind: bytes_per_pixel(kind) for kind in KINDS}
    over = [
        f"{kind} takes more than {PICTURE_BYTES_PER_PIXEL} bytes per pixel"
        for kind, each in found.items()
        if each > PICTURE_BYTES_PER_PIXEL
    ]
    named = {f"{kind}, bytes per pixel": each for kind, each in found.items()}
    return bench.verdict(named, over, args.output, bench.machine("pillow"))


if __name__ == "__main__":
    sys.exit(main())
