"""Benchmarks of speed, memory and accuracy: one file per claim, each run by hand as `python -m benchmarks.NAME`."""
