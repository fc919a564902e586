"""Get Debian packages: choose the mirror, and unpack or install packages into a folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from cowtrace.vm import VmError, host_programs

# Released suites only: -updates, -security and -backports hold no complete distribution.
_FORMAT = "$(REPO_URI)\t$(CODENAME)\t$(LABEL)\t$(COMPONENT)"


def mirror(environ: Mapping[str, str] = os.environ) -> str:
    """The mirror's URI: COWTRACE_MIRROR, or the first in this machine's apt configuration.

    To rebuild an old image, set COWTRACE_MIRROR to a snapshot mirror. Raises CowtraceError if apt
    has no mirror.
    """
    if chosen := environ.get("COWTRACE_MIRROR"):
        return chosen
    targets = ("indextargets", "--format", _FORMAT, "Created-By: Packages")
    if found := first_debian(host_programs.output("apt-get", *targets)):
        return found
    raise VmError(
        "apt on this machine names no Debian mirror",
        hint="run: apt-get update (or set COWTRACE_MIRROR to a mirror's URI)",
    )


def first_debian(listing: str) -> str | None:
    """The first repository in apt's listing that holds a complete Debian suite."""
    for line in listing.splitlines():
        uri, codename, label, component = (line.split("\t") + [""] * 4)[:4]
        if label == "Debian" and component == "main" and "-" not in codename:
            return uri
    return None


def mmdebstrap(
    mirror: str,
    suites: Sequence[str],
    arch: str,
    packages: Sequence[str],
    folder: Path,
    options: Sequence[str],
    run: Callable[..., None],
    what: str,
) -> None:
    """Run mmdebstrap for the last of the suites, with packages from all of them.

    run: `host_programs.run`, log and lock bound. Raises CowtraceError when it fails.
    """
    command = [
        *(host_programs.find("mmdebstrap"), "--mode=root", f"--architectures={arch}"),
        '--aptopt=APT::Sandbox::User "root"',  # _apt cannot enter root's cache folder
        # An old or a testing suite's Release file may have expired.
        '--aptopt=Acquire::Check-Valid-Until "false"',
        f"--include={','.join(packages)}",
        *(*options, suites[-1], str(folder), *(f"deb {mirror} {suite} main" for suite in suites)),
    ]
    run(host_programs.isolated(command), what=what)
