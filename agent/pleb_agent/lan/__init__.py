"""Agents of one local network that get blobs from each other, so that they come in only once."""
