"""The user's own data for a project: read from a folder into encrypted shards, never sent."""
