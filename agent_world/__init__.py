"""Agent World: a shared world that nobody has to trust."""

__version__ = "0.1.0"
