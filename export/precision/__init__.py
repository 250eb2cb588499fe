"""Half precision and 8-bit integers: written from the proved graph, measured against it."""
