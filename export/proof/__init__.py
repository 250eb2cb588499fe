"""Compares an ONNX file's answers with its network's, from the encoded picture on."""
