"""Fork; the child writes objects in one way alone. On how many pages is known beforehand.

The objects are of types whose blocks no other object of this process takes. One line to stdin
forks; the next one ends the parent: while it lives, its memory names the types of its child's
objects. For test_objects, which traces it.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys

PAGES = 211
POOLS = 59
POOL_BYTES = 4096 if sys.version_info < (3, 10) else 16384
PAGE_BYTES = 4096 if sys.argv[2:] == [] else int(sys.argv[2])
DATA_OFFSET = 200  # of an attribute, from its object
LINKS_BYTES = 16  # of the collector, in front of an object


class Node:
    """With 55 attributes: 16 bytes of links, 16 of its head, 440 of attributes."""

    __slots__ = tuple(f"attribute_{number}" for number in range(55))


class Filler:
    """As large, to fill the pool that others take blocks of, too."""

    __slots__ = Node.__slots__


nodes: list[Node] = []  # of the module, so that they live until the interpreter shuts down
fillers: list[Filler] = []
newest: list[list[int]] = []  # the collector links new objects to the newest one


def pool(node: object) -> int:
    return id(node) // POOL_BYTES


def page(address: int) -> int:
    return address // PAGE_BYTES


def make_nodes() -> int:
    """Fill pools with them, and no block of these stays free; on how many pages links begin."""
    fillers.append(Filler())
    while pool(fillers[-1]) == pool(fillers[0]):
        fillers.append(Filler())
    del fillers[-1]  # its block, the first of a new pool, is the next node's
    while len({pool(node) for node in nodes}) <= POOLS:
        nodes.append(Node())
    last = pool(nodes[-1])
    while pool(nodes[-1]) == last:
        del nodes[-1]
    newest.append([])
    return len({page(id(node) - LINKS_BYTES) for node in nodes})


def one_a_page(offset: int) -> list[Node]:
    """Those that are the first to have the byte at that offset on their page."""
    first = {page(id(node) + offset): node for node in reversed(nodes)}
    return [*first.values()][:PAGES]


def main() -> None:
    gc.disable()
    way = sys.argv[1]
    known = make_nodes()
    chosen: list[Node] = []
    if way in ("counts", "writes"):
        chosen = one_a_page(DATA_OFFSET if way == "writes" else 0)
        known = len(chosen)
    places = [id(node) + DATA_OFFSET for node in chosen]
    print(known, flush=True)
    sys.stdin.readline()
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        print("over", flush=True)
        sys.stdin.readline()
        return
    if way == "counts":
        for _ in chosen:
            pass
    elif way == "collects":
        gc.collect()
    elif way == "writes":
        for address in places:
            ctypes.memset(address, 0, 1)
    if way == "ends":
        sys.exit()
    os._exit(0)


main()
