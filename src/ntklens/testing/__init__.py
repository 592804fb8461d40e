"""Public test support: oracles and conformance laws."""
