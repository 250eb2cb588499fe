"""The gRPC server: a thin skin over the data plane."""
