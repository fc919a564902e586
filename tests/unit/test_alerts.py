"""What goes along with the metrics: alert rules and a dashboard, by Prometheus' own tool."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from snapshots import fork, process, row, snapshot

pytest.importorskip("prometheus_client", reason="the extra cowtrace[prometheus] is not installed")

from cowtrace.cli import main
from cowtrace.model import FaultKind, Place
from cowtrace.proc import Places
from cowtrace.prometheus.metrics import Metrics, bpf_cost, own_state, web_config

TESTS = Path(__file__).with_name("alerts_test.yml")


def printed(what: str) -> str:
    result = CliRunner().invoke(main, ["export", what])
    assert result.exit_code == 0
    return result.output


def promtool(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed: apt install prometheus")
    return subprocess.run(
        ["promtool", *arguments], cwd=folder, capture_output=True, text=True, timeout=60
    )


def test_promtool_takes_the_rules(tmp_path: Path) -> None:
    (tmp_path / "alerts.yml").write_text(printed("rules"))
    checked = promtool("check", "rules", "alerts.yml", folder=tmp_path)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "SUCCESS: 8 rules found" in checked.stdout


def test_they_fire_when_they_should(tmp_path: Path) -> None:
    (tmp_path / "alerts.yml").write_text(printed("rules"))
    (tmp_path / "tests.yml").write_text(TESTS.read_text())
    checked = promtool("test", "rules", "tests.yml", folder=tmp_path)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize(
    ("metric", "alert"),
    [
        ("cowtrace_lost_faults_total", "CowtraceLosesFaults"),
        ("cowtrace_lost_details_total", "CowtraceLosesDetails"),
    ],
)
def test_a_loss_fires_at_once(tmp_path: Path, metric: str, alert: str) -> None:
    (tmp_path / "alerts.yml").write_text(printed("rules"))
    (tmp_path / "tests.yml").write_text(
        "rule_files: [alerts.yml]\ntests:\n- interval: 1m\n  input_series:\n"
        f"  - {{series: '{metric}{{instance=\"i\"}}', values: '0+0x10 23+0x9'}}\n"
        "  promql_expr_test:\n"
        f"  - expr: count(ALERTS{{alertname='{alert}', alertstate='firing'}})\n"
        "    eval_time: 12m\n"
        "    exp_samples: [{value: 1}]\n"
    )
    checked = promtool("test", "rules", "tests.yml", folder=tmp_path)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def names() -> set[str]:
    """Of all metrics that the exporter can give."""
    metrics = Metrics(Places(lambda pid: Place(None, "/")), 9)
    now = snapshot(process(1, "a", row(FaultKind.COPIED, 23)))
    for pages, at_ns in ((503, now.at_ns), (600, 2 * now.at_ns)):
        live = fork(by_parent=pages, shareable=20_011, fork_ns=5003)
        metrics.add(replace(now, at_ns=at_ns, generations=(live,)))
    found = {
        sample.name
        for family in (*metrics.collect(), *bpf_cost(1, 1), *own_state(1, 1), web_config(True))
        for sample in family.samples
    }
    return found | {"process_cpu_seconds_total", "process_resident_memory_bytes", "up"}


def expressions(told: Any) -> list[str]:
    """Every one of the dashboard."""
    return [target["expr"] for panel in told["panels"] for target in panel["targets"]]


def test_rules_and_dashboard_name_metrics_that_there_are() -> None:
    words = [*expressions(json.loads(printed("dashboard"))), printed("rules")]
    used = {
        name for word in words for name in re.findall(r"\b(?:cowtrace|process)_[a-z_]+\b", word)
    }
    # What its words name besides, as in "its causes are in cowtrace_losses_total".
    assert used - {"cowtrace_losses_total"} <= names()
    assert len(used) > 8


def test_prometheus_understands_the_dashboard(tmp_path: Path) -> None:
    told = json.loads(printed("dashboard"))
    assert len({panel["id"] for panel in told["panels"]}) == len(told["panels"]) >= 8
    rules = [
        {"record": f"x:{at}", "expr": re.sub(r"\$__\w+", "5m", each)}
        for at, each in enumerate(expressions(told))
    ]
    (tmp_path / "all.yml").write_text(json.dumps({"groups": [{"name": "all", "rules": rules}]}))
    checked = promtool("check", "rules", "all.yml", folder=tmp_path)
    assert checked.returncode == 0, checked.stdout + checked.stderr
