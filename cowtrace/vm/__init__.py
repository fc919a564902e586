"""The test VM: builds its images, boots a kernel, runs a command in it."""

from pathlib import Path

GUEST = Path(__file__).parent / "guest"  # the scripts that run inside the VM
