"""Holds a file of weights to the digest in its name."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from export.errors import WeightsMismatch
from service.manifest import sha256_of

_DIGEST = re.compile(r"-([0-9a-f]{8,64})\.(?:pth|pt|bin|ckpt|safetensors)$")
_DATE = re.compile(r"(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])")
"""Eight digits that are a day, not a digest."""


def check_name(file: Path) -> None:
    """Raise WeightsMismatch for a file whose name carries a digest that it does not have.

    torchvision and timm put the first digits of the SHA-256 there, pytorchcv those of the SHA-1.
    """
    found = _DIGEST.search(file.name)
    if found is None or _DATE.fullmatch(found[1]):
        return
    digest = sha256_of(file)
    if digest.startswith(found[1]) or _sha1(file).startswith(found[1]):
        return
    raise WeightsMismatch(
        f"{file.name} is not the file that its name says: the name has the digest {found[1]}, the "
        f"SHA-256 of the file begins with {digest[: len(found[1])]}; fetch it again, or rename it"
    )


def _sha1(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha1").hexdigest()
