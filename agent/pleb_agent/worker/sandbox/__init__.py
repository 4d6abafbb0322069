"""What the operating system enforces on the worker, one layer in each module."""
