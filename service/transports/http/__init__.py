"""HTTP: a thin skin over the data plane; no logic of its own."""
