"""Measures what the sweep engine costs and saves; `python -m benchmarks.sweep` runs it."""
