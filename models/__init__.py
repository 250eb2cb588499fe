"""The embedded model repository: ``models/<name>/<version>/``."""

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent
"""The folder that `ZOO_MODELS` points to by default."""
