"""Coefficients of activations that are computed by series, and the tables of them that programs read."""
