"""`python -m brainseg.compare`: which run is better, by how much, and whether that is more than chance."""
