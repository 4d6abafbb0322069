"""Signed files of our own: the torch runtime and new releases."""
