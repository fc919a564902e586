"""Frames and their code: what a walk through memory finds, and what the interpreter says."""

from __future__ import annotations

import os
import sys

from cpython_subjects import Subject, reader, running
from pythons import every_python

from cowtrace.symbolizer.cpython.code import CodeNames
from cowtrace.symbolizer.cpython.frames import frame_walk, walk

# The frames of its caller: (name, file, line), innermost first.
STACK = """
import contextlib, sys, threading
def stack():
    frame, frames = sys._getframe(1), []
    while frame:
        code = frame.f_code
        name = getattr(code, "co_qualname", code.co_name)
        frames.append((name, code.co_filename, frame.f_lineno))
        frame = frame.f_back
    return frames
def ids():
    return threading.get_ident(), threading.get_native_id()
"""

FAR = "\n" * 300  # farther than one entry of a line table reaches
FILL = "\n            ".join(["a = (a,\n            a)"] * 200)  # more code than one entry reaches
CALLS = """
class Shop:
    class Counter:
        def serve(self, depth):
            if depth:
                return self.serve(
                    depth
                    - 1
                )
            return list(
                self.generate()
            )
        def generate(self):
            for each in [1]:
                yield sorted([23], key=lambda item: say(frames=stack(), ids=ids()))
        __hash__ = None
        def __eq__(self, other):
            return self.serve(
                3
            )
def far():



    # A line that is far from the first, and a comprehension.
    return [
        [Shop.Counter() == 1 for _ in range(1)]
        for _ in range(1)
    ]
FAR
def spread(a, b=far):
    try:
        raise ValueError
    except ValueError:
        with contextlib.suppress(KeyError):
            FILL
            return b(
            )
exec(compile("spread(1)", "/caf\\u00e9/\\u540d.py", "exec"))
""".replace("FAR", FAR).replace("FILL", FILL)


def seen(subject: Subject, ids: list[int], most: int = 64) -> list[list[object]]:
    runtime = subject.runtime
    thread_id, native = ids
    how = frame_walk(runtime)
    frames = walk(subject.read, how, thread_id=thread_id, native_thread_id=native, most=most)
    names = CodeNames(subject.read, runtime)
    places = [names.at(frame.code, frame.instruction) for frame in frames]
    shown = [place for place in places if not (place and place.hidden)]
    return [[place.function, place.file, place.line] if place else [] for place in shown]


def below_say(frames: list[list[object]]) -> list[list[object]]:
    """Without the frame of say(), and with the line of its caller as it is now."""
    assert frames[0][0] == "say"
    return frames[1:]


@every_python
def test_frames_are_those_of_the_interpreter(python: str) -> None:
    with running(python, STACK + CALLS) as subject:
        said = subject.hear()
        assert below_say(seen(subject, said["ids"])) == said["frames"]
        assert len(said["frames"]) > 10
        assert len({line for _, _, line in said["frames"]}) > 6
        assert any(file == "/caf\u00e9/\u540d.py" for _, file, _ in said["frames"])


@every_python
def test_frames_around_init_are_not_shown(python: str) -> None:
    """From 3.13 on, calls of classes that were called often go through a frame of their own."""
    script = """
class Item:
    def __init__(self, last):
        self.last = last
        if last: say(ids=ids(), frames=stack())
def make():
    for count in range(1000):
        Item(count == 999)
make()
"""
    with running(python, STACK + script) as subject:
        said = subject.hear()
        assert below_say(seen(subject, said["ids"])) == said["frames"]


@every_python
def test_another_thread_has_no_frames(python: str) -> None:
    with running(python, STACK + "say(ids=ids(), frames=stack())") as subject:
        said = subject.hear()
        thread_id, native = said["ids"]
        assert below_say(seen(subject, [thread_id, native]))
        assert seen(subject, [thread_id + 1, native]) == []
        if subject.runtime.layout.native_thread_id is not None:
            assert seen(subject, [thread_id, native + 1]) == []


@every_python
def test_the_thread_that_holds_the_gil_is_found(python: str) -> None:
    """It writes and waits without releasing the GIL, as ctypes.PyDLL calls functions."""
    script = """
import ctypes, functools
libc = ctypes.PyDLL(None)
wait = functools.partial(libc.read, 0, ctypes.create_string_buffer(1), 1)
sys.setswitchinterval(1000)
def work(): say(_write=libc.dprintf, _read=wait, ids=ids(), frames=stack())
thread = threading.Thread(target=work)
thread.start()
thread.join()
"""
    with running(python, STACK + script) as subject:
        said = subject.hear()
        assert said["ids"][1] != subject.process.pid
        assert below_say(seen(subject, said["ids"])) == said["frames"]


@every_python
def test_a_forked_child_is_read_with_its_parents_addresses(python: str) -> None:
    script = """
say(pid=os.getpid())
child = os.fork()
if child == 0:
    say(pid=os.getpid(), ids=ids(), frames=stack())
    os._exit(0)
os.waitpid(child, 0)
"""
    with running(python, STACK + script) as subject:
        runtime = subject.runtime if subject.hear() else None
        assert runtime
        subject.go_on()
        said = subject.hear()
        mem = os.open(f"/proc/{said['pid']}/mem", os.O_RDONLY)
        try:
            thread_id, native = said["ids"]
            assert native == said["pid"]
            frames = walk(
                reader(mem), frame_walk(runtime), thread_id=thread_id, native_thread_id=native
            )
            names = CodeNames(reader(mem), runtime)
            places = [names.at(frame.code, frame.instruction) for frame in frames]
        finally:
            os.close(mem)
            subject.go_on()
        assert [place.line for place in places if place][1:] == [
            line for _, _, line in said["frames"]
        ]


@every_python
def test_a_walk_has_a_limit(python: str) -> None:
    script = """
def deep(n):
    if n: return deep(n - 1)
    say(ids=ids())
deep(200)
"""
    with running(python, STACK + script) as subject:
        said = subject.hear()
        assert len(seen(subject, said["ids"], most=64)) == 64
        assert len(seen(subject, said["ids"], most=1000)) == 203


@every_python
def test_no_code_object_has_no_name(python: str) -> None:
    with running(python, "say(at=[id(1), id('x'), id(say), id(say.__code__)])") as subject:
        *others, code = subject.hear()["at"]
        names = CodeNames(subject.read, subject.runtime)
        assert [names.at(address, 0) for address in (*others, 0, code + 1)] == [None] * 5
        place = names.at(code, -1)
        assert place
        assert (place.function, place.file, place.hidden) == ("say", "<string>", False)
        assert place.line == place.first_line == 3


LINES = """
import dis
def f(a):
    for b in (
        a
    ):
        try:
            yield b.x(
                1, 2
            )
        finally:
            print(
                a)
    return [c
            for c in a]
def units(code):
    '''The line of each instruction by co_lines(), or by lnotab.'''
    size = len(code.co_code)
    if not hasattr(code, "co_lines"):
        starts = list(dis.findlinestarts(code)) + [(size, 0)]
        return [l for (s, l), (e, _) in zip(starts, starts[1:]) for _ in range(s, e, 2)]
    return [l for s, e, l in code.co_lines() for _ in range(s, e, 2)]
functions = [f, json.JSONDecoder.decode, *vars(dis).values(), *vars(os).values()]
codes = [each.__code__ for each in functions if isinstance(each, type(f))]
"""


@every_python
def test_every_instruction_has_the_line_that_the_interpreter_says(python: str) -> None:
    script = LINES + "say(codes=[[id(code), units(code)] for code in codes])"
    with running(python, script) as subject:
        codes = subject.hear()["codes"]
        runtime = subject.runtime
        names = CodeNames(subject.read, runtime)
        layout = runtime.layout
        count = 0
        for code, lines in codes:
            for unit, line in enumerate(lines):
                if layout.co_code_adaptive is None:
                    instruction = unit * 2 // (layout.lasti_unit_bytes or 1)
                else:
                    instruction = code + layout.co_code_adaptive + unit * 2
                place = names.at(code, instruction)
                assert place
                assert place.line == line, (place, unit)
                count += 1
        assert count > 2000


def test_names_are_remembered_and_compared_once_a_round() -> None:
    with running(sys.executable, "say(code=id(say.__code__))") as subject:
        code = subject.hear()["code"]
        reads: list[int] = []

        def read(address: int, size: int) -> bytes:
            reads.append(address)
            return subject.read(address, size)

        names = CodeNames(read, subject.runtime)
        first = names.at(code, -1)
        count = len(reads)
        assert names.at(code, -1) == first
        assert len(reads) == count
        names.start_round()
        assert names.at(code, -1) == first
        compared = len(reads)
        assert count < compared < 2 * count
        assert names.at(code, -1) == first
        assert len(reads) == compared
