"""Tracing: from a torch module to a graph of rules."""
