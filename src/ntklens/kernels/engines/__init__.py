"""Engines: what computes the kernel of a graph."""
