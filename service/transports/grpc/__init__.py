"""Speaks gRPC: reads messages, calls the data plane, writes its answers.

`server.py` makes grpcio's server; `methods.py` is what every call passes on its way to a service:
`classifier.py`, `inference.py`, `health.py` or `reflection.py`. The package owns the limits of
messages, calls and streams. Begin with `methods.py`.
"""
