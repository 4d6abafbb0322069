"""The coordinator's data directory: paths, configuration, keys, logs."""
