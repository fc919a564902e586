"""Build kernels and root images that are missing, into the cache; find those that are built."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from cowtrace.vm import (
    GUEST,
    VmError,
    busybox,
    foreign,
    host_programs,
    image_store,
    kernel,
    manifest,
    root,
)
from cowtrace.vm.debian import mirror
from cowtrace.vm.definition import AMD64, Busybox, Definition, Kernel, Userspace
from cowtrace.vm.progress import Watcher

_FORMAT = "2"  # increment when a change of the build code changes the result


@dataclass(frozen=True, slots=True)
class Artifact:
    """A kernel, a root image or a busybox, and the folder that holds it once it is built."""

    name: str  # `kernel 6.12`, `root image`: for users
    what: Kernel | Userspace | Busybox
    place: Path

    @property
    def manifest(self) -> manifest.Manifest | None:
        """None when it is not built."""
        return manifest.read(self.place)

    @property
    def bytes(self) -> int:
        """Disk space that its files take; 0 when it is not built."""
        return sum(file.stat().st_blocks * 512 for file in self.place.glob("*"))


def kernel_artifact(item: Kernel) -> Artifact:
    """The folder with a kernel's vmlinuz, initrd and config, keyed by all that decides them."""
    key = image_store.key(_FORMAT, _content(item), (GUEST / "init").read_text())
    return Artifact(f"kernel {item.name}", item, image_store.folder() / f"kernel-{item.name}-{key}")


def root_artifact(user: Userspace) -> Artifact:
    """The folder with the root image, keyed by all that decides it."""
    parts = [(GUEST / name).read_text() for name in ("customize", "vagrant.pub")]
    key = image_store.key(_FORMAT, _content(user), *parts)
    if user.arch == AMD64:
        return Artifact("root image", user, image_store.folder() / f"root-{key}")
    name = f"{user.arch} root image"
    return Artifact(name, user, image_store.folder() / f"root-{user.arch}-{key}")


def busybox_artifact(user: Userspace) -> Artifact:
    """The folder with a static busybox for the initrd of kernels that a path names."""
    what = Busybox(user.suite, user.arch)
    key = image_store.key(_FORMAT, _content(what))
    return Artifact(f"busybox of {user.arch}", what, image_store.folder() / f"busybox-{key}")


def artifacts_of(definition: Definition, item: Kernel) -> tuple[Artifact, Artifact]:
    """A kernel and the root image that it boots."""
    return kernel_artifact(item), root_artifact(definition.userspace_of(item))


def _content(part: Kernel | Userspace | Busybox) -> str:
    """The settings that decide the files, without those of running it.

    amd64 is left out, so that images built before there were architectures keep their key.
    """
    content = dataclasses.asdict(part)
    for run_only in ("usual", "cpu"):
        content.pop(run_only, None)
    if part.arch == AMD64:
        del content["arch"]
    return json.dumps(content, sort_keys=True)


def missing(definition: Definition, names: Sequence[str], *, force: bool = False) -> list[Artifact]:
    """What must be built before these kernels can run; with force, all that they need."""
    kernels = [definition.kernel(name) for name in dict.fromkeys(names)]
    users = dict.fromkeys(map(definition.userspace_of, kernels))
    wanted = [*map(root_artifact, users), *map(kernel_artifact, kernels)]
    return [artifact for artifact in wanted if force or not artifact.manifest]


def base(definition: Definition, arch: str) -> tuple[Artifact, Artifact]:
    """What a kernel of this architecture needs that a path names: busybox, the root image."""
    user = definition.userspace_for(arch)
    return busybox_artifact(user), root_artifact(user)


def build(
    definition: Definition, artifacts: Sequence[Artifact], watcher: Watcher, *, force: bool = False
) -> None:
    """Build the artifacts one after the other, under the cache's lock.

    An interrupt keeps the finished ones. Raises CowtraceError when one cannot be built.
    """
    if not artifacts:
        return
    if os.geteuid() != 0:
        raise VmError(
            "building the test VM needs root: it installs packages into a folder",
            hint="run it with sudo, and `cowtrace vm run` with sudo as well",
        )
    for program in ("mmdebstrap", "mke2fs", "cpio", "depmod"):
        host_programs.find(program)
    for artifact in artifacts:
        if isinstance(artifact.what, Userspace):
            foreign.require(artifact.what.arch)
    source = mirror()
    folder = image_store.folder()
    with image_store.locked(folder, watcher.detail) as lock, contextlib.ExitStack() as stack:
        # SIGTERM becomes an exception, so that a half-made artifact is removed.
        stack.callback(signal.signal, signal.SIGTERM, signal.signal(signal.SIGTERM, _leave))
        current = (
            one
            for item in definition.kernels
            for one in (*artifacts_of(definition, item), *base(definition, item.arch))
        )
        image_store.clean(folder, frozenset(one.place.name for one in current))
        for artifact in artifacts:
            if not force and artifact.manifest:
                continue  # the build that held the lock made it
            watcher.begin(f"{artifact.name} ({artifact.what.suite})")
            _build_one(artifact, source, lock, watcher)


def _build_one(artifact: Artifact, source: str, lock: int, watcher: Watcher) -> None:
    log = artifact.place.parent / "build.log"
    log.write_text("")
    run = functools.partial(host_programs.run, log=log, keep_open=(lock,), on_line=watcher.detail)
    what = artifact.what
    need_mib = root.NEED_MIB if isinstance(what, Userspace) else kernel.NEED_MIB
    image_store.require_space(artifact.place.parent, need_mib, f"the {artifact.name}")
    with image_store.staged(artifact.place) as place:
        unpacked = place.parent / "unpacked"
        unpacked.mkdir()
        packages: tuple[str, ...]
        if isinstance(what, Kernel):
            release, packages = kernel.build(what, source, place, unpacked, run)
        elif isinstance(what, Busybox):
            release, packages = busybox.build(what, source, place, unpacked, run)
        else:
            release = what.suite
            with foreign.runnable(what.arch):
                packages = root.build(what, source, place, unpacked, run)
        watcher.detail("computing checksums")
        digests = manifest.digests(*sorted(place.iterdir()))
        built = datetime.now(UTC).isoformat(timespec="seconds")
        tools = manifest.tools()
        made = manifest.Manifest(what.suite, release, packages, digests, built, tools)
        manifest.write(place, made)


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
