"""Pure rules of the agent: whom to obey, when to run, what state follows. No clock, no I/O."""
