"""Bytes on disk: content-addressed blobs, hosts' deltas, unfinished uploads."""
