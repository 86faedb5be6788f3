"""`python -m brainseg.predict`: masks, overlays and a table for new images."""
