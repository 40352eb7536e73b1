"""Whole nodes on the in-memory network, through faults drawn by a seed."""
