"""The checks of `pleb-agent doctor`, and its report for others."""
