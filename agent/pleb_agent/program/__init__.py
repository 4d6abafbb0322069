"""What every process of ours stands on: how it is started, and how it writes a file."""
