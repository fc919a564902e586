"""Oracles: what the kernel itself says of copies. None of them reads the tracer's maps."""
