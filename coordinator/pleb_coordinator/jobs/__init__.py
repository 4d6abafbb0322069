"""The background loop that carries the steps out."""
