"""The background process: expires leases, plans rounds, verifies results, makes versions."""
