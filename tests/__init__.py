"""Tests, by what they need: unit/ nothing, served/ processes and ports, pytorch/ PyTorch as well.

Below these are the rooms of `service`, of `export` and of the repository around them.
"""
