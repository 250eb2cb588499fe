"""Recognise files that are no ONNX files by their first bytes."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

_EXPORT = "export it with torch.onnx.export"
_WEIGHTS = f"{_EXPORT}, or, for a network of `list`, build it with --weights"
_MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (
        0,
        b"version https://git-lfs.github.com/spec/",
        "it is a Git LFS pointer, which only names the file: `git lfs pull` fetches it",
    ),
    (4, b"TFL3", "it is a TensorFlow Lite model: tf2onnx (--tflite) converts it"),
    (4, b"ORTM", "it is a model in ONNX Runtime's own format (.ort): adopt the .onnx of it"),
    (
        0,
        b"\x89HDF\r\n\x1a\n",
        "it is an HDF5 file, as Keras writes them: tf2onnx converts the model",
    ),
    (0, b"ptrt", "it is a TensorRT engine, made for one GPU: adopt the .onnx it was made of"),
    (0, b"ftrt", "it is a TensorRT engine, made for one GPU: adopt the .onnx it was made of"),
    (0, b"GGUF", "it is a GGUF file, which holds weights without a graph"),
    (0, b"\x1f\x8b", "it is packed by gzip: unpack it first (gunzip)"),
    (0, b"BZh", "it is packed by bzip2: unpack it first (bunzip2)"),
    (0, b"\xfd7zXZ\0", "it is packed by xz: unpack it first (unxz)"),
    (0, b"\x28\xb5\x2f\xfd", "it is packed by zstd: unpack it first (unzstd)"),
    (0, b"7z\xbc\xaf\x27\x1c", "it is a 7z archive: unpack it first"),
    (257, b"ustar", "it is a tar archive: unpack it first"),
    (0, b"%PDF-", "it is a PDF"),
    (0, b"\x89PNG", "it is a picture"),
    (0, b"\xff\xd8\xff", "it is a picture"),
)
_PICKLES = tuple(b"\x80" + bytes([protocol]) for protocol in range(2, 6))
_MARKUP = {
    "an HTML page, perhaps an error page that was saved as the file: fetch the file itself": (
        b"<!doctype html",
        b"<html",
    ),
    "XML; OpenVINO's .xml is no ONNX file either: adopt the .onnx it was made of": (b"<?xml",),
    "JSON, perhaps an error answer that was saved as the file": (b"{", b"["),
}


def name(data: bytes, file: Path) -> str | None:
    """Say what ``data``, the content of ``file``, is and what to do with it; None where unknown."""
    if not data:
        return "it is empty"
    for offset, magic, words in _MAGIC:
        if data[offset : offset + len(magic)] == magic:
            return words
    if data[:4] == b"PK\x03\x04":
        return _archive(data)
    if data[:2] in _PICKLES:
        return f"it is a pickle, as torch.save wrote them: {_WEIGHTS}"
    if data[8:9] == b"{" and int.from_bytes(data[:8], "little") < len(data):
        return f"it is a .safetensors file, which holds weights without a graph: {_WEIGHTS}"
    start = data[:256].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for words, beginnings in _MARKUP.items():
        if start.startswith(beginnings):
            return f"it is {words}"
    if file.suffix == ".pb":
        return "a .pb file is TensorFlow's, most often: tf2onnx converts it"
    return None


def _archive(data: bytes) -> str:
    """Say what a zip archive is, by the names in it."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            inside = archive.namelist()
    except (zipfile.BadZipFile, ValueError, OSError):
        return "it is a broken zip archive: fetch it again"
    if any(entry.endswith("/data.pkl") for entry in inside):
        if any("/code/" in entry for entry in inside):
            return f"it is a TorchScript file: {_EXPORT}"
        return f"it is a PyTorch checkpoint: {_WEIGHTS}"
    if any(entry.endswith("model.weights.h5") for entry in inside):
        return "it is a Keras model: model.export(…, format='onnx') or tf2onnx converts it"
    return "it is a zip archive: unpack it first"
