"""Floor 2: the only importer of libp2p. ``interface`` is what the rest of the program sees."""
