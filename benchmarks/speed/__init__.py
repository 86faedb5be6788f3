"""Measures how fast the reference trains in brainseg, in plain Keras and in PyTorch."""
