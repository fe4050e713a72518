"""The forward process of Algorithm 1 and the samplers of Algorithm 2."""
