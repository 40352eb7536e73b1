"""Floor 4: composition."""
