"""Offline: trained networks from PyTorch to ONNX, each with a proof. The only user of torch."""
