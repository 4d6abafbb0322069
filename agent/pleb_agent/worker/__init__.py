"""The process that computes: torch, no network, no files but its work directory."""
