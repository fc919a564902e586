"""Oracles: read the kernel's own counts of copies. None of them reads the tracer's maps."""
