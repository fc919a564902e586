"""Write checks as JUnit XML for CI systems: a suite for each kernel, a case for each check."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable

from cowtrace.text import printable
from cowtrace.verify.check import Check, Verdict
from cowtrace.verify.groups import title
from cowtrace.verify.matrix import KernelChecks
from cowtrace.verify.text_report import details


def junit(kernels: Iterable[KernelChecks]) -> str:
    """The document. What cannot be seen is a skipped case, its reason the message."""
    root = ET.Element("testsuites", name="cowtrace verify")
    root.extend(map(_suite, kernels))
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _suite(one: KernelChecks) -> ET.Element:
    suite = ET.Element(
        "testsuite",
        name=printable(f"kernel {one.kernel}"),
        tests=str(len(one.checks)),
        failures=str(sum(check.verdict is Verdict.FAILS for check in one.checks)),
        skipped=str(sum(check.verdict is Verdict.UNSEEN for check in one.checks)),
        errors="0",
        time=f"{sum(check.seconds for check in one.checks):.3f}",
    )
    if one.versions:
        properties = ET.SubElement(suite, "properties")
        for line in one.versions:
            ET.SubElement(properties, "property", name="version", value=printable(line))
    suite.extend(_case(one.kernel, check) for check in one.checks)
    return suite


def _case(kernel: str, check: Check) -> ET.Element:
    case = ET.Element(
        "testcase",
        classname=printable(f"{kernel}.{title(check.group)}"),
        name=printable(f"{check.name}: {check.claim}"),
        time=f"{check.seconds:.3f}",
    )
    if check.verdict is Verdict.FAILS:
        ET.SubElement(case, "failure", message=printable(check.why), type=check.verdict.value)
    elif check.verdict is Verdict.UNSEEN:
        ET.SubElement(case, "skipped", message=printable(check.why))
    out = ET.SubElement(case, "system-out")
    out.text = "\n".join(printable(f"{name}: {words}") for name, words in details(check))
    return case
