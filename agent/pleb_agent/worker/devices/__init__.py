"""The devices that a worker computes on: the one package that knows which one it is."""
