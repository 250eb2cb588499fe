"""From crops to probabilities on a device: admission, batches, sessions."""
