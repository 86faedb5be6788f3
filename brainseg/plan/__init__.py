"""Reads a set once, and writes an experiment for it with its reasons."""
