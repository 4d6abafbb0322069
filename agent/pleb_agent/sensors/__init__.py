"""What the agent reads of its machine."""
