"""Type objects: what is one, and what it is called."""

from __future__ import annotations

from cpython_subjects import running
from pythons import every_python

from cowtrace.symbolizer.cpython.types import TypeNames

# Name as shown, and an expression whose value is the type.
NAMED = {
    "object": "object",
    "type": "type",
    "dict": "dict",
    "collections.OrderedDict": "collections.OrderedDict",
    "collections.deque": "collections.deque",
    "re.Pattern": "type(re.compile(''))",
    "_io.BytesIO": "io.BytesIO",
    "itertools.chain": "itertools.chain",
    "enum.EnumMeta": "enum.EnumMeta",
    "enum.EnumType": "enum.EnumMeta",  # from 3.11 on
    "abc.ABC": "abc.ABC",
    "ctypes.c_char": "ctypes.c_char",  # until 3.12, tp_dict is of a subclass of `dict`
    "__main__.Item": "Item",
    "__main__.Item.Part": "Item.Part",
    "__main__.make.<locals>.Local": "Local",
    "__main__.Meta": "Meta",
    "__main__.Made": "Made",
    "__main__.Slots": "Slots",
    "__main__.Number": "Number",
    "other.Moved": "Moved",
    "__main__.G\u00fcte": "G\u00fcte",
    "__main__.\u540d\u524d": "\u540d\u524d",
    "Odd": "Odd",  # whose module is not a string
}

SCRIPT = """
import abc, collections, ctypes, enum, io, itertools, re
class Item:
    class Part: pass
def make():
    class Local: pass
    return Local
Local = make()
class Meta(type): pass
class MetaMeta(type): pass
class Deep(type, metaclass=MetaMeta): pass
class Made(metaclass=Meta): pass
class MadeDeep(metaclass=Deep): pass
class Slots: __slots__ = ("a", "b")
class Number(int): pass
class Moved: pass
Moved.__module__ = "other"
class Odd: pass
Odd.__module__ = 23
class G\u00fcte: pass
class \u540d\u524d: pass
"""


def told(expressions: list[str]) -> str:
    facts = (
        "{each: [id(eval(each)), eval(each).__basicsize__, eval(each).__itemsize__,"
        " bool(eval(each).__flags__ & 1 << 14), eval(each).__flags__] for each in %r}"
    )
    return f"say(facts={facts % expressions}, others=[id(3), id('x'), id(say), id(Item())])"


@every_python
def test_types_are_named(python: str) -> None:
    """By their own __module__ and __qualname__, as the interpreter says them."""
    names = (
        "{each: (type.__module__, type.__qualname__) for each, type in"
        " ((each, eval(each)) for each in %r if each != 'Odd')}"
    )
    expressions = sorted({*NAMED.values(), "MadeDeep", "Deep"})
    script = f"{SCRIPT}say(names={names % expressions})\n{told(expressions)}"
    with running(python, script) as subject:
        real = subject.hear()["names"]
        subject.go_on()
        facts = subject.hear()["facts"]
        types = TypeNames(subject.read, subject.runtime)
        minor = subject.runtime.layout.minor
        for expression, (address, basic, item, has_gc, flags) in facts.items():
            found = types.at(address)
            assert found, expression
            assert (found.basic_bytes, found.item_bytes) == (basic, item)
            assert found.has_gc == has_gc
            pointers = flags & (0x10 if minor == 11 else 0x18 if minor > 11 else 0)
            assert found.pre_header_bytes == (16 if pointers else 0)
            assert found.inline_values == (minor > 12 and bool(flags & 4))
            if expression in real:
                module, name = real[expression]
                wanted = name if module == "builtins" else f"{module}.{name}"
                assert found.name == wanted
                assert wanted in NAMED or expression in ("MadeDeep", "Deep")
            else:
                assert found.name == "Odd"


@every_python
def test_other_objects_are_no_types(python: str) -> None:
    with running(python, f"{SCRIPT}{told([])}") as subject:
        others = subject.hear()["others"]
        types = TypeNames(subject.read, subject.runtime)
        assert [types.at(address) for address in others] == [None] * len(others)
        assert types.at(0) is None
        assert types.at(others[0] + 1) is None


@every_python
def test_names_are_remembered_and_compared_once_a_round(python: str) -> None:
    with running(python, f"{SCRIPT}{told(['Item'])}") as subject:
        address = subject.hear()["facts"]["Item"][0]
        reads = []

        def read(at: int, size: int) -> bytes:
            reads.append(at)
            return subject.read(at, size)

        types = TypeNames(read, subject.runtime)
        first = types.at(address)
        count = len(reads)
        assert 0 < count < 100
        assert types.at(address) is first
        assert len(reads) == count
        types.start_round()
        assert types.at(address) is first
        compared = len(reads)
        assert count < compared < 2 * count
        assert types.at(address) is first
        assert len(reads) == compared


@every_python
def test_a_new_type_at_the_address_of_an_old_one_has_its_own_name(python: str) -> None:
    with running(python, f"{SCRIPT}{told(['Item', 'Local'])}") as subject:
        facts = subject.hear()["facts"]
        old, new = (facts[name][0] for name in ("Item", "Local"))
        replaced = False

        def read(at: int, size: int) -> bytes:
            """With the other type object in the place of the first."""
            if replaced and old <= at < old + subject.runtime.layout.heap_type_bytes:
                at += new - old
            return subject.read(at, size)

        types = TypeNames(read, subject.runtime)
        first = types.at(old)
        replaced = True
        assert types.at(old) is first
        types.start_round()
        second = types.at(old)
        assert first
        assert second
        assert first.name.endswith("Item")
        assert second.name.endswith("Local")
