"""The fast engine for processors: the whole recursion of a pair in the cache, compiled once by Numba.

`program` turns a graph into a list of instructions on maps, `vm` runs them on sixteen pairs at a time, `engine` cuts the
matrix into such groups and spreads them over threads. The readable twin is `ntklens.kernels.engines.recursion`.
"""
