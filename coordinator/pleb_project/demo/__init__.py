"""`pleb-project demo`: a coordinator, two agents and three liars on this PC."""
