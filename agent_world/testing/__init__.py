"""Floor 5: simulation kit and invariant checkers."""
