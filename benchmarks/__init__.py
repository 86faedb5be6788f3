"""Measurements of speed, memory and overhead; run from the repository's root as `python -m benchmarks.NAME`."""
