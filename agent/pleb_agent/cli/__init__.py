"""`pleb-agent`: commands for the volunteer.

Exit codes: 0 done; 1 an error of the agent; 2 a wrong argument or file; 3 a statement that cannot
be trusted; 4 the coordinator refuses; 5 the coordinator cannot be reached; 6 another process uses
the home; 7 no agent runs; 8 `doctor` found something to repair; 130 interrupted.
"""

from __future__ import annotations

from pleb_agent.cli.main import main

__all__ = ["main"]
