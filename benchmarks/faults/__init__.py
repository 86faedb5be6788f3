"""Breaks a running study in every way of its failure model; `python -m benchmarks.faults --hosts` runs it."""
