"""The paper's network in torch."""
