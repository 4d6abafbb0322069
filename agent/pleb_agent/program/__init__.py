"""How our processes are started, and which installation they belong to."""
