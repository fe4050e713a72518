"""Metrics, protocols, and evaluations by them."""
