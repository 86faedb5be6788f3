"""How fast the reference trains, beside a plain Keras script and PyTorch; `python -m benchmarks.speed` runs it."""
