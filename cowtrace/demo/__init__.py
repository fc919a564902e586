"""The demo: real processes fork and write, and the trace shows which pages were copied."""
