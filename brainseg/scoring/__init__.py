"""Masks -> numbers, with intervals."""
