"""One training run, from a checked configuration to its record."""
