"""Measures a GPU: `python -m loadtests.gpu`; see docs/gpu.md."""
