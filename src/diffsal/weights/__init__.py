"""Weight files: ours, others', the catalogue."""
