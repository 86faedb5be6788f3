"""`python -m brainseg.train`: trains one run, from configuration to record."""
