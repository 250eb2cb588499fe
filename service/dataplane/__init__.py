"""The use cases, once for all transports: classify, infer, load, unload, list."""
