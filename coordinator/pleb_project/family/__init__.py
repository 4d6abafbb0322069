"""Projects that are published together: the members of an ensemble."""
