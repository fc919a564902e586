"""Run `cowtrace verify --json` in the VM, one kernel at a time; yield its Checks as they come."""

from __future__ import annotations

import json
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence

from cowtrace import child
from cowtrace.errors import EXIT_MISMATCH, EXIT_NO_VM, CowtraceError
from cowtrace.verify.check import Check, from_dict
from cowtrace.vm import VmError, build, host_programs
from cowtrace.vm.definition import Definition

_LIMIT_SECONDS = 1200  # for a boot and all checks: software emulation takes about 150
_LIMIT_OF_PLANS_SECONDS = 3600  # by each of the plans; the first time, it compiles each
_DIGITS = 16  # of a SHA-256, shown


def checks_on(
    kernel: str, arguments: Sequence[str], options: Sequence[str] = ()
) -> Iterator[Check]:
    """Boot this kernel, verify in it with these arguments, and end the VM; yield each check.

    options: of `cowtrace vm run`. The images must be built. Raises CowtraceError when the VM or
    the command in it fails.
    """
    limit = _LIMIT_OF_PLANS_SECONDS if "--plans" in arguments else _LIMIT_SECONDS
    command = child.command("cowtrace", "vm", "run", "--timeout", str(limit), *options, kernel)
    command += ["--", "cowtrace", "verify", "--json", *arguments]
    made = 0
    with (
        tempfile.TemporaryFile("w+", errors="replace") as errors,
        subprocess.Popen(
            host_programs.tied(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=child.environment(),
            start_new_session=True,  # Ctrl-C comes once: from here
        ) as process,
    ):
        try:
            assert process.stdout
            for line in process.stdout:
                if check := _check(line, kernel):
                    yield check
                    made += 1
        except BaseException:
            # The VM holds nothing to restore, so the second signal ends it at once.
            process.send_signal(signal.SIGTERM)
            process.send_signal(signal.SIGTERM)
            raise
        code = process.wait()
        errors.seek(0)
        if code not in (0, EXIT_MISMATCH) or not made:
            raise _failed(kernel, code, [line for line in errors.read().splitlines() if line])


def versions(definition: Definition, kernel: str) -> tuple[str, ...]:
    """The exact versions that the VM runs: a line for the kernel, a line for the userspace."""
    lines = []
    own, image = build.artifacts_of(definition, definition.kernel(kernel))
    for name, artifact in ((kernel, own), ("userspace", image)):
        made = artifact.manifest
        if not made:
            continue
        packages = f"{len(made.packages)} packages" if artifact is image else made.packages[0]
        digests = ", ".join(f"{file} {digest[:_DIGITS]}" for file, digest in made.sha256)
        release = f"{made.version}, " if made.version != made.suite else ""
        lines.append(
            f"{name}: {release}{made.suite}, {packages}, built {made.built[:10]}, SHA-256 {digests}"
        )
    return tuple(lines)


def _check(line: str, kernel: str) -> Check | None:
    """None for a line that says how plans differ: it follows from the checks."""
    try:
        fields = json.loads(line)
        return None if "change" in fields else from_dict(fields)
    except (KeyError, TypeError, ValueError) as error:
        raise VmError(
            f"kernel {kernel}: not a check: {line.strip()[:60]!r}",
            hint=f"run it alone: cowtrace vm run {kernel} -- cowtrace verify --json",
        ) from error


def _failed(kernel: str, code: int, said: list[str]) -> CowtraceError:
    """An error with the last message of the VM, or of the command in it, and its hint."""
    hint = f"run it alone: cowtrace vm run {kernel} -- cowtrace verify"
    if len(said) > 1 and said[-1].startswith("Hint: "):
        hint = said.pop().removeprefix("Hint: ")
    message = said[-1].removeprefix("cowtrace: ") if said else f"exit code {code}"
    return CowtraceError(
        f"verify on kernel {kernel} failed: {message}", hint=hint, exit_code=code or EXIT_NO_VM
    )
