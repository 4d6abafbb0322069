"""Where bytes live: content-addressed files, hosts' deltas, uploads under way."""
