"""Run the command line when imported.

For the launcher, whose Python lines have to be valid shell, too: no call is.
"""

from __future__ import annotations

from cowtrace.__main__ import main

main()
