"""Engines: a graph of rules, ready to run. `base` says what an engine offers, `select` is where one is chosen.

`recursion` pushes covariances through a graph, layer by layer. `reference` runs it in plain torch on any device and for any
graph; `fused` compiles it for processors. Every value of an engine is tested against `reference`.
"""
