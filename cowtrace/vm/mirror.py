"""Choose the Debian mirror: COWTRACE_MIRROR, or the first in this machine's apt configuration."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping

from cowtrace.errors import EXIT_NO_VM, CowtraceError

# Released suites only: -updates, -security and -backports hold no complete distribution.
_FORMAT = "$(REPO_URI)\t$(CODENAME)\t$(LABEL)\t$(COMPONENT)"


def mirror(environ: Mapping[str, str] = os.environ) -> str:
    """The URI of a Debian mirror.

    To rebuild an old image, set COWTRACE_MIRROR to a snapshot mirror.

    Raises CowtraceError if apt has none.
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
    """The first repository in apt's listing that holds a complete Debian suite."""
    for line in listing.splitlines():
        uri, codename, label, component = (line.split("\t") + [""] * 4)[:4]
        if label == "Debian" and component == "main" and "-" not in codename:
            return uri
    return None
