"""Floor 4: read-only following."""
