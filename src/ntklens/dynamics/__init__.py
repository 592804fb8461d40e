"""How the empirical kernel moves over training."""
