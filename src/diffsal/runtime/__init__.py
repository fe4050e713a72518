"""How a window gets its map."""
