"""Metrics and profiles as requests of OTLP; the queue; a collector that fails."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from snapshots import PAGE, calls, detail, fork, mapping, process, row, snapshot

pytest.importorskip("opentelemetry.proto", reason="the extra cowtrace[otlp] is not installed")

from collector import Collector, collecting, metrics_of, samples_of
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality

from cowtrace.analysis import new_rows
from cowtrace.analysis.new_rows import NewProfile, NewRows
from cowtrace.analysis.profile import profile
from cowtrace.cli import main
from cowtrace.errors import CowtraceError
from cowtrace.model import Completeness, DetailRow, FaultKind, MappingType, Place
from cowtrace.otlp import queue, sender
from cowtrace.otlp.endpoint import header, listed_headers, parse, post
from cowtrace.otlp.metrics import metrics_request
from cowtrace.otlp.profiles import profiles_request
from cowtrace.otlp.queue import Message, Queue, pauses
from cowtrace.proc import Places
from cowtrace.prometheus.metrics import Metrics, bpf_cost

COLLECT = calls("gc_collect", "main")
SECONDS = 60.0


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as found:
        yield found


def families() -> list[Any]:
    metrics = Metrics(Places(lambda pid: Place(None, f"/cgroup/{pid}")), 100)
    first = process(1, "redis", row(FaultKind.COPIED, 23), row(FaultKind.REUSED, 7))
    now = snapshot(first, completeness=Completeness(3, (("slot taken", 3),)))
    metrics.add(replace(now, generations=(fork(by_parent=23),)))
    return [*metrics.collect(), *bpf_cost(2_500_000_000, 41)]


def test_metrics_are_those_of_prometheus() -> None:
    request = metrics_request(families(), began_ns=5, at_ns=9)
    (block,) = request.resource_metrics
    about = {each.key: each.value.string_value for each in block.resource.attributes}
    assert about["service.name"] == "cowtrace"
    assert about["host.name"]
    found = {metric.name: metric for metric in metrics_of(request)}
    copied = found["cowtrace_faults"]
    assert copied.sum.is_monotonic
    assert copied.sum.aggregation_temporality == (
        AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
    )
    points = {
        {a.key: a.value.string_value for a in each.attributes}["kind"]: each
        for each in copied.sum.data_points
    }
    assert (points["copied"].as_int, points["reused"].as_int) == (23, 7)
    assert points["copied"].start_time_unix_nano == 5
    assert points["copied"].time_unix_nano == 9
    (size,) = found["cowtrace_bytes"].sum.data_points
    assert (size.as_int, found["cowtrace_bytes"].unit) == (23 * PAGE, "By")
    assert found["cowtrace_lost_faults"].sum.data_points[0].as_int == 3
    live = found["cowtrace_forks_live"]
    assert (live.WhichOneof("data"), live.gauge.data_points[0].as_int) == ("gauge", 1)
    ran = found["cowtrace_bpf_run_seconds"]
    assert (ran.unit, ran.sum.data_points[0].as_double) == ("s", 2.5)
    # Each value that Prometheus would read, and no other.
    values = sum(len(family.samples) for family in families())
    assert values == sum(
        len((each.sum if each.HasField("sum") else each.gauge).data_points)
        for each in found.values()
    )


def test_profiles_hold_what_the_rows_do() -> None:
    now = snapshot(process(1, "python3"), process(2, "redis"))
    rows = (
        detail(1, faults=23, user_stack=COLLECT, mapping=mapping(type=MappingType.HEAP)),
        detail(1, faults=11, user_stack=calls("work", "main")),
        detail(2, faults=5),
    )
    found = profile(now, rows, {1: "/app"}, copies_only=True)
    request = profiles_request(found, began_ns=5, duration_ns=4)
    samples = samples_of(request)
    usual = {"comm": "python3", "cgroup": "/app", "pid": 1}
    assert samples["copied_pages"] == [
        (("gc_collect", "main"), usual | {"mapping": "[heap]"}, 23),
        (("work", "main"), usual, 11),
        (("redis",), {"comm": "redis", "pid": 2}, 5),
    ]
    assert [value for _, _, value in samples["copied_bytes"]] == [23 * PAGE, 11 * PAGE, 5 * PAGE]
    tables = request.dictionary
    assert len(tables.stack_table) == 4
    assert len(tables.function_table) == 5  # main is one
    assert [tables.string_table[m.filename_strindex] for m in tables.mapping_table] == [
        "",
        "/usr/bin/python3.13",
    ]
    times = {
        (each.time_unix_nano, each.duration_nano)
        for each in request.resource_profiles[0].scope_profiles[0].profiles
    }
    assert times == {(5, 4)}


def test_new_rows_are_what_was_added() -> None:
    new = NewRows()

    def taken(*rows: DetailRow) -> dict[int, tuple[int, int]]:
        new.add(rows)
        return {each.pid: (each.faults, each.bytes // PAGE) for each in new.take()}

    def one(faults: int, number: int = 7) -> DetailRow:
        return detail(1, faults=faults, user_stack=COLLECT, number=number)

    first = one(23)
    assert taken(first) == {1: (23, 23)}
    assert taken(first) == {}
    assert taken(one(34), detail(2, faults=5, number=8)) == {1: (11, 11), 2: (5, 5)}
    new.add((one(36),))
    new.add((one(41),))
    assert taken(one(3, number=9)) == {1: (10, 10)}  # it began anew
    assert taken(one(3, number=10)) == {1: (3, 3)}  # with the same sums


def test_what_is_known_of_a_process_stays_until_its_samples_are_taken() -> None:
    new = NewProfile(lambda now, pids: {each.pid: f"/{each.comm}" for each in now.processes})
    first = replace(snapshot(process(1, "gone")), samples=(detail(1, faults=23, number=1),))
    later = replace(
        snapshot(process(2, "new")), samples=(*first.samples, detail(2, faults=5, number=2))
    )
    new.add(first)
    new.add(later)
    found = new.take(later)
    assert found
    assert {dict(each.labels)["comm"]: each.values[1] for each in found.samples} == {
        "gone": 23,
        "new": 5,
    }
    assert {dict(each.labels)["cgroup"] for each in found.samples} == {"/gone", "/new"}
    assert new.take(later) is None


def test_new_rows_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(new_rows, "_MOST", 2)
    new = NewRows()
    new.add(tuple(detail(pid, faults=pid, user_stack=COLLECT, number=pid) for pid in range(1, 6)))
    assert {row.pid: row.faults for row in new.take()} == {1: 1, 2: 2, 0: 3 + 4 + 5}


def test_the_oldest_messages_give_way() -> None:
    waiting = Queue(most_bytes=10)
    for name in ("a", "b", "c"):
        waiting.put(Message(name, b"four"))
    first = waiting.first()
    assert first
    assert (waiting.dropped, len(waiting), first.signal) == (1, 2, "b")
    waiting.put(Message("d", b"four"))  # the one that is just sent gives way
    waiting.done(first)
    assert (waiting.dropped, len(waiting)) == (2, 2)
    waiting.put(Message("e", b"longer than all"))
    assert (waiting.dropped, len(waiting)) == (5, 0)
    waiting.end(SECONDS)
    assert waiting.first() is None


def test_an_end_leaves_no_time() -> None:
    waiting = Queue()
    waiting.put(Message("a", b""))
    waiting.end(0)
    waiting.pause(SECONDS)  # returns at once, or the test would time out
    assert waiting.first() is None
    assert len(waiting) == 1


def test_pauses_grow_and_are_bounded() -> None:
    assert [pauses(tries) for tries in (1, 2, 3, 7, 1000)] == [1, 2, 4, 60, 60]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://localhost:4318", "http://localhost:4318"),
        ("https://c.example/otlp/", "https://c.example/otlp"),
        ("http://[::1]:4318", "http://[::1]:4318"),
    ],
)
def test_an_endpoint(url: str, shown: str) -> None:
    assert parse(url).shown == shown
    assert parse(url).is_loopback == ("example" not in url)


@pytest.mark.parametrize(
    "url",
    [
        *("collector:4318", "ftp://h", "http://", "http://h:x", "http://h/?q", "http://h\n/"),
        *("http://u:secret@h", "http://h/\x1b", "http://[::1"),
    ],
)
def test_what_is_no_endpoint(url: str) -> None:
    with pytest.raises(CowtraceError) as refused:
        parse(url)
    assert "secret" not in f"{refused.value} {refused.value.hint}"
    assert refused.value.exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--endpoint", "ftp://h"], 2, "no URL of a collector"),
        (["--header", "secret"], 2, "has no value"),
        (["--private"], 2, "no process is chosen"),
    ],
)
def test_what_the_command_refuses(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, words: str
) -> None:
    monkeypatch.setattr("cowtrace.tracer.attach", lambda *_, **__: pytest.fail("attached"))
    ended = CliRunner().invoke(main, ["export", "otlp", *arguments])
    assert (ended.exit_code, words in ended.stderr) == (code, True), ended.output


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cowtrace.tracer.attach", lambda *_, **__: pytest.fail("attached"))
    module = "opentelemetry.proto.profiles.v1development.profiles_pb2"
    monkeypatch.setitem(sys.modules, module, None)
    ended = CliRunner().invoke(main, ["export", "otlp"])
    assert ended.exit_code == 1
    assert "needs opentelemetry-proto, which is not installed" in ended.stderr
    assert "cowtrace[otlp]" in ended.stderr


def test_headers() -> None:
    assert header("A=b=c") == ("A", "b=c")
    assert listed_headers("api-key=a%20b, x=y,") == (("api-key", "a b"), ("x", "y"))
    assert "secret" not in repr(parse("http://h", [("k", "secret")]))
    for name, value in (("a b", "c"), ("a", "b\r\nc: d"), ("", "x")):
        with pytest.raises(CowtraceError):
            parse("http://h", [(name, value)])
    with pytest.raises(CowtraceError):
        header("secret")


def test_it_posts_with_headers_and_follows_no_redirect(collector: Collector) -> None:
    endpoint = parse(collector.url, [("Authorization", "Bearer x")])
    request = metrics_request(families(), began_ns=5, at_ns=9).SerializeToString()
    collector.statuses = [307, 503, 400]
    answers = [post(endpoint, "metrics", request) for _ in range(4)]
    assert [(each.done, each.again) for each in answers] == [
        (False, False),
        (False, True),
        (False, False),
        (True, False),
    ]
    assert collector.metrics[0].SerializeToString() == request
    assert {each["Authorization"] for each in collector.headers} == {"Bearer x"}
    unheard = post(replace(endpoint, port=closed_port()), "metrics", request)
    assert (unheard.done, unheard.again, unheard.words) == (False, True, "Connection refused")


def test_https_verifies_the_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed: apt install openssl")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout",
         "key.pem", "-out", "cert.pem", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost"],
        cwd=tmp_path, check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    with collecting(context) as collector:
        endpoint = parse(collector.url)
        refused = post(endpoint, "metrics", b"")
        assert (refused.done, refused.again) == (False, True)
        assert refused.words.startswith("its certificate is refused: self")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
        assert post(endpoint, "metrics", b"").done
        other = replace(endpoint, host="127.0.0.1")  # a name that the certificate lacks
        assert not post(other, "metrics", b"").done
        assert len(collector.metrics) == 1


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def test_a_sender_tries_again_and_sends_what_waits_at_the_end(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(queue, "_LEAST_SECONDS", 0.01)
    monkeypatch.setattr(sender, "_ENDING_SECONDS", SECONDS)
    collector.statuses = [503, 503, 429]
    now = snapshot(process(1, "a"))
    profiled = profiles_request(
        profile(now, (detail(1),), {}, copies_only=True), began_ns=1, duration_ns=2
    )
    with sender.sending(parse(collector.url), lambda: None) as outbox:
        assert outbox.send("metrics", metrics_request(families(), began_ns=5, at_ns=9))
        assert collector.wait("metrics", 1, SECONDS)
        assert outbox.send("profiles", profiled)
    assert len(collector.headers) == 5
    assert collector.profiles == [profiled]
    said = capfd.readouterr().err
    assert said.count("cannot send to") == 1
    assert "it answers 503" in said
    assert "were not sent" not in said


def test_without_a_collector_it_ends_and_says_what_was_not_sent(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sender, "_ENDING_SECONDS", 0.1)
    with sender.sending(parse(f"http://127.0.0.1:{closed_port()}"), lambda: None) as outbox:
        assert outbox.send("metrics", metrics_request(families(), began_ns=5, at_ns=9))
    said = capfd.readouterr().err
    assert "1 messages were not sent" in said
    assert "Traceback" not in said


def test_a_collector_that_never_answers_does_not_hold_up_the_end(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sender, "_ENDING_SECONDS", -0.9)  # the process is ended 0.1 s later
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = parse(f"http://127.0.0.1:{silent.getsockname()[1]}")
        with sender.sending(endpoint, lambda: None) as outbox:
            outbox.send("metrics", metrics_request(families(), began_ns=5, at_ns=9))
            accepted, _ = silent.accept()
        accepted.close()
        assert "does not answer in time" in capfd.readouterr().err


def test_what_a_collector_rejects_is_said_once(
    collector: Collector, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "_ENDING_SECONDS", SECONDS)
    collector.rejected = 7
    with sender.sending(parse(collector.url), lambda: None) as outbox:
        for number in (1, 2):
            outbox.send("metrics", metrics_request(families(), began_ns=5, at_ns=9))
            assert collector.wait("metrics", number, SECONDS)
    said = capfd.readouterr().err
    assert said.count("does not take all metrics: 7 rejected: too\\x1bmany") == 1


def test_a_sender_that_has_ended_is_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise CowtraceError("refused", hint="none")

    def send_all(outbox: sender.Outbox) -> None:
        while True:
            outbox.send("metrics", metrics_request([], began_ns=1, at_ns=2))

    with (
        sender.sending(parse("http://127.0.0.1:9"), fail) as outbox,
        pytest.raises(CowtraceError, match="the process that sends to the collector has ended"),
    ):
        send_all(outbox)
    assert "the process that sends to the collector failed" in capfd.readouterr().err
