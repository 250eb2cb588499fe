"""Adopts a foreign ONNX classifier: writes a version from the file and proves it against that."""
