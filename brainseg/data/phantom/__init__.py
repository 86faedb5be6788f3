"""Slices that look like contrast-enhanced T1 brain MRI, made from a seed."""
