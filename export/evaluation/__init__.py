"""Measures the error of a model on labelled pictures, and writes the report."""
