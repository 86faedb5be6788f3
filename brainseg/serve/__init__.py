"""`python -m brainseg.serve`: a registered model answers images with masks over HTTP, within limits."""
