"""What operators set: settings, keys and TLS, paths, cores, versions to serve."""
