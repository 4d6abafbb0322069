"""The coordinator's data directory: where things lie, its configuration, its keys, its logs."""
