"""Read the memory of a running CPython process: its types, its frames and its state.

Every reader takes `read(address, size)`, which returns the bytes there, or fewer where memory is
not readable, or raises OSError. What it returns is hostile: no reader follows a pointer without a
limit, and none raises because of what it has read.
"""
