"""Floor 1: pure."""
