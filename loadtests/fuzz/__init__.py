"""Hostile input: pictures, HTTP, the Open Inference Protocol and gRPC, mutated by a seed."""
