"""Arithmetic on versions: deltas become the next one, bit for bit the same everywhere."""
