"""cowtrace: which write faults copied a page, and which only re-marked it writable."""

from __future__ import annotations

__version__ = "0.1.0.dev0"
