"""Encoders that have seen other images: their graphs, and how their weights are read."""
