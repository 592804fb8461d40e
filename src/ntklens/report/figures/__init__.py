"""The figures: each a pure function from rows and arrays to a matplotlib Figure."""
