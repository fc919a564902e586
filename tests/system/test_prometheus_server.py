"""Scrape `cowtrace export prometheus` with Debian's Prometheus."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from command import COWTRACE, PATIENCE, eventually

from system.test_exporter import (
    CHILDREN,
    PAGES,
    expect,
    exported,
    go,
    page,
    total,
    wait_until_refreshed,
    working,
)

pytestmark = [pytest.mark.host, pytest.mark.usefixtures("can_trace")]


def test_promtool_accepts_the_metrics() -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed: apt install prometheus")
    with exported() as url:
        checked = subprocess.run(
            ["promtool", "check", "metrics"], input=page(url), capture_output=True, text=True
        )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_prometheus_scrapes_it_and_loads_its_rules(tmp_path: Path) -> None:
    if shutil.which("prometheus") is None:
        pytest.skip("Prometheus is not installed: apt install prometheus")
    rules = subprocess.run([*COWTRACE, "export", "rules"], capture_output=True, check=True).stdout
    (tmp_path / "rules.yml").write_bytes(rules)
    with exported("--interval", "0.5") as url:
        target = urllib.parse.urlsplit(url).netloc
        (tmp_path / "prometheus.yml").write_text(
            "global: {scrape_interval: 1s, evaluation_interval: 1s}\nrule_files: [rules.yml]\n"
            "scrape_configs:\n- job_name: cowtrace\n"
            f"  static_configs: [{{targets: ['{target}']}}]\n"
        )
        with prometheus(tmp_path) as server:
            with working("cow-scraped") as running:
                expect(running, "begin")
                go(running)
                expect(running, "end")
            wait_until_refreshed(url)  # its end, too, is counted
            mine = "cowtrace_bytes_total{comm='cow-scraped', kind='copied', job='cowtrace'}"
            wanted = total(url, "cowtrace_bytes_total", comm="cow-scraped", kind="copied")
            assert wanted >= PAGES * CHILDREN * os.sysconf("SC_PAGE_SIZE")
            assert eventually(lambda: value(server, f"sum({mine})") == wanted)
            # A scrape may come too late on a busy machine; not each.
            assert eventually(lambda: value(server, "up{job='cowtrace'}") == 1)
            assert eventually(lambda: value(server, "cowtrace_build_info") == 1)
            # A gap of some scrapes: what a rate is made of has not fallen.
            assert value(server, "sum(resets(cowtrace_bytes_total[5m]))") == 0
            found = json.loads(page(f"{server}/api/v1/rules"))["data"]["groups"]
            states = {rule["name"]: rule["health"] for group in found for rule in group["rules"]}
            assert eventually(
                lambda: all(
                    rule["health"] == "ok"
                    for group in json.loads(page(f"{server}/api/v1/rules"))["data"]["groups"]
                    for rule in group["rules"]
                )
            ), states


@contextmanager
def prometheus(folder: Path) -> Iterator[str]:
    """A server with data of its own; yields its address."""
    log = folder / "log"
    with log.open("w") as errors:
        running = subprocess.Popen(
            ["prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=data",
             "--web.listen-address=127.0.0.1:0"],
            cwd=folder, stdout=errors, stderr=errors,
        )  # fmt: skip
    try:
        pattern = re.compile(r'Listening on"? address=(127\.0\.0\.1:\d+)')
        found = eventually(lambda: pattern.search(log.read_text()))
        assert found, log.read_text()
        server = f"http://{found[1]}"
        assert eventually(lambda: ready(server)), log.read_text()
        yield server
    finally:
        running.terminate()
        running.wait(PATIENCE)


def ready(server: str) -> bool:
    try:
        return "Ready" in page(f"{server}/-/ready")
    except OSError:
        return False


def value(server: str, query: str) -> float | None:
    """Of a query with one result."""
    answer = json.loads(page(f"{server}/api/v1/query?{urllib.parse.urlencode({'query': query})}"))
    found = answer["data"]["result"]
    return float(found[0]["value"][1]) if found else None
