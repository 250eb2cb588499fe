"""Fuzzing by coverage with atheris: ``python -m loadtests.fuzz.guided TARGET --seconds N``.

libFuzzer changes what reached new lines of the service's own code, and of Pillow's in Python, and
stops at the first error that is none of the service's family. The input that did it is written
beside, as ``crash-…``. Needs ``pip install atheris``, which has no wheel for each Python: no extra
of the project, therefore.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

INSTRUMENTED = ["service", "PIL", "python_multipart"]


def _pictures() -> tuple[Callable[[bytes], object], list[bytes]]:
    from loadtests.fuzz.seeds import FORMATS, seeds
    from service.imaging.decode import decode_scaled

    corpus = [data for kind in FORMATS for data in seeds(kind)]
    return lambda data: decode_scaled(data, 64, max_pixels=1_000_000), corpus


def _forms() -> tuple[Callable[[bytes], object], list[bytes]]:
    from loadtests.fuzz.requests import form
    from service.transports.http.body import pictures

    kind = "multipart/form-data; boundary=b0undary"
    return lambda data: pictures(data, kind, 4), [form([b"x"]), form([b"", b"xy"])]


def _oip() -> tuple[Callable[[bytes], object], list[bytes]]:
    from service.transports.http.oip_body import read

    tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "data": ["AA=="]}
    other = {**tensor, "parameters": {"binary_data_size": 5}}
    del other["data"]
    corpus = [json.dumps({"inputs": [each]}).encode() for each in (tensor, other)]

    def read_both(data: bytes) -> None:
        """As JSON alone, and with binary data from the last brace on."""
        with suppress(_family()):
            read("lenet5", None, data, None)
        read("lenet5", None, data, str(data.rfind(b"}") + 1))

    return read_both, [*corpus, corpus[1] + b"\1\0\0\0x"]


def _family() -> type[Exception]:
    return importlib.import_module("service.errors").ZooError  # type: ignore[no-any-return]


TARGETS = {"pictures": _pictures, "forms": _forms, "oip": _oip}


def main() -> None:
    """Run libFuzzer, which ends the process itself."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.fuzz.guided", description=__doc__)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    try:
        atheris = importlib.import_module("atheris")
    except ImportError:
        sys.exit("this needs atheris: pip install atheris")
    with atheris.instrument_imports(include=INSTRUMENTED):
        call, corpus = TARGETS[args.target]()
        family = _family()

    def one(data: bytes) -> None:
        with suppress(family):
            call(data)

    with tempfile.TemporaryDirectory(prefix="corpus-") as folder:
        for number, data in enumerate(corpus):
            Path(folder, str(number)).write_bytes(data)
        options = [f"-max_total_time={args.seconds}", f"-seed={args.seed}", "-timeout=60"]
        atheris.Setup([sys.argv[0], *options, "-rss_limit_mb=3000", folder], one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
