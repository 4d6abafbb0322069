"""I/O that the agent, the coordinator and the researcher's tools do alike.

This file imports nothing, so that a light process (probe, tray) pays only for what it uses.
"""
