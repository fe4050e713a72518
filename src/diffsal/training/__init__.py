"""Algorithm 1, from recipe to weights."""
