"""Graphs in 16-bit floats and 8-bit integers: written from the proved one, measured against it."""
