"""What is claimed about speed, size and learning, measured. `python -m benchmarks NAME`."""
