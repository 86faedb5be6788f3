"""Finds and reads finished runs and their models."""
