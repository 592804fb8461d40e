"""Finite networks: parametrisation, linearisation, training."""
