"""`python -m brainseg.evaluate`: scores of runs with confidence intervals, by tumour type and size."""
