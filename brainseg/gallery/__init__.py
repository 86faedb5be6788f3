"""`python -m brainseg.gallery`: every slice of a run or two, as one HTML file."""
