"""Volumes on disk, cut into slices."""
