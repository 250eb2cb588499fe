"""Answers requests of the Open Inference Protocol, version 2, whatever transport brought them.

`http/oip.py` and `grpc/inference.py` call this package with requests that they have read, and write
its responses. It owns the protocol's names, tensors and parameters, and never sees JSON or
protobuf. Begin with `faces.py`, then `inference.py`.
"""
