"""Experiments: a Spec in, a Record out; the only place where all stages meet."""
