"""Publishing: the root key, signed metadata, and the blobs that a coordinator misses."""
