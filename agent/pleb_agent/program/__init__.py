"""How this installation starts its own processes."""
