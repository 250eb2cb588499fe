"""The engine: from uint8 crops to probabilities, on whatever device there is."""
