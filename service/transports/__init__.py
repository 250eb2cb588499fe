"""The wire: HTTP, gRPC and the Open Inference Protocol, keys and TLS."""
