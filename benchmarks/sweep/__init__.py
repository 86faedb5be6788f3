"""What the sweep engine costs, and what it saves; `python -m benchmarks.sweep` runs it."""
