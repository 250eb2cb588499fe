"""Writes graphs in 16-bit floats and 8-bit integers and measures how far they agree."""
