"""Faults that are planted in the code one at a time: the tests must see each of them."""
