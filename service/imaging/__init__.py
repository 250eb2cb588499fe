"""From a picture's bytes to its pixels, its crops, and one answer."""
