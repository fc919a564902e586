"""Where Debian packages come from: the host's own apt configuration, or COWTRACE_MIRROR."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping

from cowtrace.errors import EXIT_NO_VM, CowtraceError

# Released suites only: -updates, -security and -backports hold no whole distribution.
_FORMAT = "$(REPO_URI)\t$(CODENAME)\t$(LABEL)\t$(COMPONENT)"


def mirror(environ: Mapping[str, str] = os.environ) -> str:
    """The URI of a Debian mirror. A snapshot mirror in COWTRACE_MIRROR rebuilds an old image.

    Raises CowtraceError when apt knows none.
    """
    if chosen := environ.get("COWTRACE_MIRROR"):
        return chosen
    try:
        listing = subprocess.run(
            ["apt-get", "indextargets", "--format", _FORMAT, "Created-By: Packages"],
            capture_output=True,
            text=True,
            check=False,
        ).stdout
    except FileNotFoundError:
        listing = ""
    if found := first_debian(listing):
        return found
    raise CowtraceError(
        "apt on this machine names no Debian mirror",
        hint="run: apt-get update (or set COWTRACE_MIRROR to a mirror's URI)",
        exit_code=EXIT_NO_VM,
    )


def first_debian(listing: str) -> str | None:
    """The first repository in apt's listing that holds a whole Debian suite."""
    for line in listing.splitlines():
        uri, codename, label, component = (line.split("\t") + [""] * 4)[:4]
        if label == "Debian" and component == "main" and "-" not in codename:
            return uri
    return None
