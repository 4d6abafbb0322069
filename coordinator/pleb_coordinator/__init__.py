"""The coordinator: plans units, issues them, verifies what comes back, makes versions."""
