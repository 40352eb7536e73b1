"""Benchmarks: one module a row, each beside its peers in one run."""
