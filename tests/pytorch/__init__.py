"""Tests that need PyTorch: those of `export`, and comparisons with its transforms."""
