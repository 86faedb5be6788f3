"""`python -m brainseg.report`: runs or a study as one HTML file, the answer first."""
