"""The local page and control API, on loopback, for this user alone."""
