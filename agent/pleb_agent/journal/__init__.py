"""What must survive a crash: projects, assignments, requests under way, counters."""
