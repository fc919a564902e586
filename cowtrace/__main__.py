"""`python -m cowtrace`: the same as the console script."""

from __future__ import annotations

from cowtrace.cli import main

if __name__ == "__main__":
    main(prog_name="cowtrace")
