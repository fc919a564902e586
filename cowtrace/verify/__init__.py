"""The claims about fork and every path of copy-on-write, as checks with independent oracles."""
