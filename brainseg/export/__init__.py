"""`python -m brainseg.export`: a model as a file for other programs, checked against the original before it is kept."""
