"""Compares what an ONNX file answers with what its network answers, from the picture on."""
