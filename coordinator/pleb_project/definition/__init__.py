"""`project.toml`: its fields, its reading, and errors that show the place."""
