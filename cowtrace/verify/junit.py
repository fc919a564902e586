"""Write checks as JUnit XML for CI systems: a suite for each kernel, a case for each check.

As Jenkins and GitLab read it: they show a case by its classname and name, which no two share, and
of a failure the text, not the message.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator, Sequence

from cowtrace import __version__
from cowtrace.text import printable
from cowtrace.verify.agreement import AGREE, PLANS_DIFFER, disagreements
from cowtrace.verify.check import Check, Verdict
from cowtrace.verify.differences import by_workload
from cowtrace.verify.groups import title
from cowtrace.verify.matrix import COMPLETE, KernelChecks
from cowtrace.verify.text_report import details


def junit(kernels: Iterable[KernelChecks]) -> str:
    """The document. What cannot be seen is a skipped case, its reason the message."""
    root = ET.Element("testsuites", name="cowtrace verify")
    root.extend(map(_suite, kernels))
    _sum_up(root, root.findall("testsuite"))
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _suite(one: KernelChecks) -> ET.Element:
    suite = ET.Element("testsuite", name=printable(f"kernel {one.kernel}"))
    cases = [*_cases(one)]
    suite.set("tests", str(len(cases)))
    for attribute, tag in (("failures", "failure"), ("skipped", "skipped"), ("errors", "error")):
        suite.set(attribute, str(sum(case.find(tag) is not None for case in cases)))
    suite.set("time", f"{sum(check.seconds for check in one.checks):.3f}")
    properties = ET.SubElement(suite, "properties")
    for name, value in (
        ("cowtrace", __version__),
        ("kernel", one.release),
        ("plan", ", ".join(one.plans)),
        *(("version", line) for line in one.versions),
    ):
        ET.SubElement(properties, "property", name=name, value=printable(value))
    suite.extend(cases)
    return suite


def _sum_up(root: ET.Element, suites: Sequence[ET.Element]) -> None:
    for attribute in ("tests", "failures", "errors"):
        root.set(attribute, str(sum(int(suite.get(attribute, "0")) for suite in suites)))
    root.set("time", f"{sum(float(suite.get('time', '0')) for suite in suites):.3f}")


def _cases(one: KernelChecks) -> Iterator[ET.Element]:
    for checks in by_workload(one.checks).values():
        for check in checks:
            by_plan = f"{check.name} by {check.plan}" if len(checks) > 1 else check.name
            yield _case(one.kernel, check, f"{by_plan}: {check.claim}")
        if len(checks) > 1:
            yield _agreement(one.kernel, checks)
    if one.error:
        case = ET.Element("testcase", classname=printable(one.kernel), name=COMPLETE, time="0")
        ET.SubElement(case, "error", message=printable(one.error), type="incomplete")
        yield case


def _case(kernel: str, check: Check, name: str) -> ET.Element:
    case = _testcase(kernel, check.group, name, check.seconds)
    words = "\n".join(printable(f"{name}: {words}") for name, words in details(check))
    if check.verdict is Verdict.FAILS:
        _failure(case, check.why, check.verdict.value, words)
    elif check.verdict is Verdict.UNSEEN:
        ET.SubElement(case, "skipped", message=printable(check.why))
    ET.SubElement(case, "system-out").text = words
    return case


def _agreement(kernel: str, checks: Sequence[Check]) -> ET.Element:
    case = _testcase(kernel, checks[0].group, f"{checks[0].name}: {AGREE}", 0)
    for each in disagreements(checks):
        _failure(case, each.words, PLANS_DIFFER, printable(each.words))
    return case


def _testcase(kernel: str, group: str, name: str, seconds: float) -> ET.Element:
    classname = printable(f"{kernel}.{title(group)}")
    return ET.Element("testcase", classname=classname, name=printable(name), time=f"{seconds:.3f}")


def _failure(case: ET.Element, why: str, kind: str, words: str) -> None:
    ET.SubElement(case, "failure", message=printable(why), type=kind).text = words
