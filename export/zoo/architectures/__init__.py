"""Networks that no library has, written from their papers."""
