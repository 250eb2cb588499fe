"""What a GPU gives: `python -m loadtests.gpu`; see docs/gpu.md."""
