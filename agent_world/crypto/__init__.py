"""Floor 1: hashing, keys, signatures with domain tags. Pure: randomness is handed in."""
