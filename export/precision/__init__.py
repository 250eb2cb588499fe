"""Floats of 16 bits and integers of 8: written from the proved graph, measured against it."""
