"""agentd: one process for each home, with the loop, the local control API, logs and signals."""
