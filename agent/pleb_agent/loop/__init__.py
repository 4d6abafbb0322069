"""The work itself: ask, fetch, run, report, upload; for each attached project in turn."""
