"""Where objects have their counts and headers, and how the layout of a process is found."""

from __future__ import annotations

import dataclasses

import pytest
from cpython_subjects import running
from pythons import every_python

from cowtrace.symbolizer.cpython.layout import confirmed, generations_found, layout_of
from cowtrace.symbolizer.cpython.memory import Memory
from cowtrace.symbolizer.cpython.tables import TABLES
from cowtrace.symbolizer.cpython.types import TypeNames

OBJECTS = """
class Item: pass
item, bare = Item(), object()
item.color = 23
say(item=id(item), bare=id(bare), attributes=id(item.__dict__), text=id("caf\\u00e9"),
    item_type=id(Item), bare_type=id(object), type=id(type), dict_type=id(dict),
    none=id(None), count=sys.getrefcount(bare), list=id([]), list_type=id(list))
"""


@every_python
def test_counts_and_headers_are_where_the_layout_says(python: str) -> None:
    with running(python, OBJECTS) as subject:
        said = subject.hear()
        runtime = subject.runtime
        layout = runtime.layout
        types = TypeNames(subject.read, runtime)
        for name in ("item", "bare", "list"):
            assert subject.number(said[name] + layout.ob_type, 8) == said[f"{name}_type"]
        assert runtime.dict_type == said["dict_type"]
        # bare, and the argument of getrefcount(), which 3.14 borrows
        count = subject.number(said["bare"] + layout.ob_refcnt)
        assert said["count"] - 1 <= count <= said["count"]
        none = subject.number(said["none"] + layout.ob_refcnt, 8)
        assert layout.immortal(none) == (layout.minor >= 12)
        assert not layout.immortal(count)

        found = types.at(said["item_type"])
        assert found
        assert found.has_gc
        assert found.pre_header_bytes == (16 if layout.minor >= 11 else 0)
        # The list of the generation: the next object's previous one is this.
        head = said["item"] - layout.gc_head_bytes
        following = subject.number(head, 8)
        assert subject.number(following + 8, 8) & ~3 == head
        if found.pre_header_bytes:  # a word in front of the head: the dictionary
            assert subject.number(head - 8, 8) == said["attributes"]
        plain = types.at(said["bare_type"])
        assert plain
        assert (plain.has_gc, plain.pre_header_bytes, plain.basic_bytes) == (False, 0, 16)


@every_python
def test_generations_are_found_by_their_lists(python: str) -> None:
    """Also where the table is wrong, as it is for some releases of 3.13."""
    with running(python, "say()") as subject:
        subject.hear()
        runtime = subject.runtime
        memory = Memory(subject.read)
        for wrong in (20, 24, 28):
            layout = dataclasses.replace(runtime.layout, gc_generations=wrong)
            found = generations_found(memory, layout, runtime.interpreter)
            assert found.gc_generations == runtime.layout.gc_generations
        nowhere = generations_found(memory, runtime.layout, runtime.type_type)
        assert nowhere == runtime.layout


@every_python
def test_another_versions_layout_is_not_confirmed(python: str) -> None:
    with running(python, "say()") as subject:
        subject.hear()
        runtime = subject.runtime
        memory = Memory(subject.read)
        for minor, table in TABLES.items():
            layout = runtime.layout if minor == runtime.layout.minor else table
            fits = confirmed(memory, layout, runtime.type_type, runtime.interpreter)
            assert fits == (minor == runtime.layout.minor)
        assert not confirmed(memory, runtime.layout, runtime.dict_type, runtime.interpreter)


@pytest.mark.parametrize(
    "version", [0, 0x020700F0, 0x030800F0, 0x030F00F0, 0x030D00F0, 0x030E00F0, 1 << 60]
)
def test_no_layout(version: int) -> None:
    """Of a version that is unknown, or has debug offsets, where there are none."""
    assert layout_of(version, lambda address, size: bytes(size), 0x10000) is None


def test_older_versions_need_no_memory() -> None:
    for minor in (9, 10, 11, 12):
        version = 3 << 24 | minor << 16 | 0x1F0
        assert layout_of(version, lambda address, size: b"", 0x10000) is TABLES[minor]
