"""Adopts a foreign ONNX classifier: from a file of unknown habits to a model of ours."""
