"""Backups of a home that may be running, and homes made of backups."""
