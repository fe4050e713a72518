"""Clips with their human ground truth."""
