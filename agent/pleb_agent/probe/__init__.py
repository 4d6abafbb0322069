"""The probe: a process that watches for input and full screens, with time-outs."""
