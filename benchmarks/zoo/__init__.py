"""`python -m benchmarks zoo`: real models, each exported, compared with eager mode and checked."""
