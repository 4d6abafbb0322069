"""Everything that goes over the network: one door, typed errors, bounded answers."""
