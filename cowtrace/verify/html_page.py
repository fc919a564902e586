"""Write the checks of several kernels as one HTML page: matrix, remarks, every check."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence

from cowtrace.text import printable
from cowtrace.verify.check import Check, Verdict
from cowtrace.verify.differences import Difference
from cowtrace.verify.groups import title
from cowtrace.verify.matrix import (
    KernelChecks,
    group_names,
    plan_lines,
    plans_words,
    remarks,
    verdict_word,
)
from cowtrace.verify.text_report import SHORT, details

_STYLE = """
:root { color-scheme: light dark; --good: #1a7f37; --bad: #cf222e; --unseen: #9a6700 }
@media (prefers-color-scheme: dark) { :root { --good: #3fb950; --bad: #f85149; --unseen: #d29922 } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0;
         border-bottom: 1px solid #8884 }
.holds { color: var(--good) } .fails { color: var(--bad); font-weight: bold }
.unseen { color: var(--unseen) } dt { font-weight: 600 } dd { margin: 0 0 .25rem 1.5rem }
summary { cursor: pointer } pre { white-space: pre-wrap }
"""


def page(
    kernels: Sequence[KernelChecks], changes: Mapping[str, Sequence[Difference]] | None = None
) -> str:
    """The document. All text is escaped by the library that writes it.

    changes: by heading, such as `6.1 and 7.2`.
    """
    html = ET.Element("html", lang="en")
    head = ET.SubElement(html, "head")
    ET.SubElement(head, "meta", charset="utf-8")
    ET.SubElement(head, "meta", name="viewport", content="width=device-width")
    _text(head, "title", "cowtrace verify")
    ET.SubElement(head, "style").text = _STYLE
    body = ET.SubElement(html, "body")
    subject = "this kernel copies" if len(kernels) == 1 else "these kernels copy"
    _text(body, "h1", f"What {subject} on write")
    _matrix(body, kernels)
    for line in plan_lines(kernels):
        _text(body, "p", f"Seen by {line}")
    for heading, found in (changes or {}).items():
        _text(body, "h2", f"Differences, {heading}")
        listing = ET.SubElement(body, "ul")
        for each in found:
            words = f"{each.change.value}: {title(each.group)}, {each.name}: {each.words}"
            _text(listing, "li", words)
        if not found:
            _text(listing, "li", "none")
    if noted := remarks(kernels):
        _text(body, "h2", "Findings")
        listing = ET.SubElement(body, "ul")
        for remark in noted:
            on = ", ".join(remark.kernels)
            _text(listing, "li", f"{remark.group} on {on}: {remark.words}")
    for one in kernels:
        _text(body, "h2", f"Kernel {one.kernel}, {plans_words(one)}")
        if one.error:
            _text(body, "p", f"Not all checks were made: {one.error}")
        if one.versions:
            ET.SubElement(body, "pre").text = "\n".join(map(printable, one.versions))
        for check in one.checks:
            _check(body, check)
    return "<!DOCTYPE html>\n" + ET.tostring(html, encoding="unicode", method="html") + "\n"


def _matrix(body: ET.Element, kernels: Sequence[KernelChecks]) -> None:
    table = ET.SubElement(body, "table")
    row = ET.SubElement(ET.SubElement(table, "thead"), "tr")
    for heading in ("Claim or path", *(one.kernel for one in kernels)):
        _text(row, "th", heading)
    rows = ET.SubElement(table, "tbody")
    for group in group_names(kernels):
        row = ET.SubElement(rows, "tr")
        _text(row, "td", title(group))
        for one in kernels:
            word, verdict = verdict_word(one.group(group))
            cell = _text(row, "td", word)
            if verdict:
                cell.set("class", SHORT[verdict].lower())


def _check(body: ET.Element, check: Check) -> None:
    whole = ET.SubElement(body, "details")
    if check.verdict is Verdict.FAILS:
        whole.set("open", "open")
    line = ET.SubElement(whole, "summary")
    _text(line, "span", check.verdict.value).set("class", SHORT[check.verdict].lower())
    _text(line, "span", f" {check.group} {check.name}: {check.claim}")
    listing = ET.SubElement(whole, "dl")
    for name, words in details(check):
        _text(listing, "dt", name)
        _text(listing, "dd", words)


def _text(parent: ET.Element, tag: str, words: str) -> ET.Element:
    element = ET.SubElement(parent, tag)
    element.text = printable(words)
    return element
