"""The server of the metrics: who is let in, and what a web config may say."""

from __future__ import annotations

import base64
import contextlib
import http.client
import os
import shutil
import socket
import ssl
import statistics
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from click.testing import CliRunner
from hypothesis import strategies

pytest.importorskip("yaml", reason="the extra cowtrace[prometheus] is not installed")
pytest.importorskip("bcrypt", reason="the extra cowtrace[prometheus] is not installed")

import bcrypt

from cowtrace.cli import main
from cowtrace.errors import EXIT_USAGE, CowtraceError
from cowtrace.prometheus import connections, passwords, server, webconfig
from cowtrace.prometheus.connections import MOST, MOST_OF_ONE, owner
from cowtrace.prometheus.http_messages import names_this_machine, parse
from cowtrace.prometheus.passwords import Passwords, credentials
from cowtrace.prometheus.reloading import Reloading
from cowtrace.prometheus.server import Page, address, is_loopback
from cowtrace.prometheus.webconfig import WebConfig

SECRET = "correct horse: battery"
PAGE = b"cowtrace_faults_total 23\n"


def page() -> bytes:
    return PAGE


@contextlib.contextmanager
def served(
    host: str = "127.0.0.1", port: int = 0, config: WebConfig | None = None, page: Page = page
) -> Iterator[int]:
    found, listener = config or WebConfig(), server.listening(host, port)
    serving = server.Server(listener, lambda: found, page, host if is_loopback(host) else None)
    thread = threading.Thread(target=serving.run)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        serving.stop()
        thread.join()
        listener.close()


def raw(port: int, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, header fields and content of the answer to these bytes."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(request)
        answer = http.client.HTTPResponse(connection, method=request[:4].decode("latin-1"))
        answer.begin()
        return answer.status, {n.lower(): v for n, v in answer.getheaders()}, answer.read()


def basic(name: str, password: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(f'{name}:{password}'.encode()).decode()}"}


def get(
    port: int,
    path: str = "/metrics",
    headers: dict[str, str] | None = None,
    context: ssl.SSLContext | None = None,
) -> tuple[int, bytes]:
    connection = (
        http.client.HTTPSConnection("localhost", port, timeout=30, context=context)
        if context
        else http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    )
    connection.request("GET", path, headers=headers or {})
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, content


def config(tmp_path: Path, text: str) -> WebConfig:
    (tmp_path / "web.yml").write_text(text)
    return webconfig.read(tmp_path / "web.yml")


def hashed(password: str) -> str:
    return str(bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode())


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with cert.pem and key.pem, of localhost."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed: apt install openssl")
    folder = tmp_path_factory.mktemp("certificate")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout",
         "key.pem", "-out", "cert.pem", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip
    return folder


def test_metrics_and_nothing_else() -> None:
    with served() as port:
        assert get(port) == (200, PAGE)
        assert get(port, "/metrics?name[]=x") == (200, PAGE)
        for path in ("/", "/metrics/../../etc/passwd", "/metricsx"):
            assert get(port, path)[0] == 404
    with pytest.raises(ConnectionRefusedError):
        get(port)


def test_a_client_that_says_nothing_holds_up_nobody() -> None:
    with (
        served() as port,
        socket.create_connection(("127.0.0.1", port)),
    ):
        assert get(port) == (200, PAGE)


def test_many_clients_that_say_nothing_hold_up_nobody() -> None:
    """Slowloris: the next client ends the oldest of them."""
    with served() as port, contextlib.ExitStack() as stack:
        silent = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
            for _ in range(2 * MOST)
        ]
        silent[-1].sendall(b"GET /metrics HTTP/1.1\r\nHost: local")
        for _ in range(3):
            assert get(port) == (200, PAGE)
        assert silent[0].recv(1) == b""
        silent[-1].sendall(b"host\r\n\r\n")
        assert silent[-1].recv(12) == b"HTTP/1.1 200"


@pytest.mark.parametrize("part", [b"", b"GET /metrics HTTP/1.1\r\n", b"\x16\x03\x01\x02\x00"])
def test_a_request_has_a_deadline_however_busy_its_client_is(
    monkeypatch: pytest.MonkeyPatch, part: bytes, certificate: Path, tmp_path: Path
) -> None:
    """The handshake included: a byte now and then gets no more time."""
    monkeypatch.setattr(server, "_HEAD_SECONDS", 0.2)
    with (
        served(config=with_tls(tmp_path, certificate) if part[:1] == b"\x16" else None) as port,
        socket.create_connection(("127.0.0.1", port), timeout=30) as slow,
    ):
        slow.sendall(part)
        began = time.monotonic()
        with contextlib.suppress(OSError):
            while time.monotonic() - began < 20:
                slow.sendall(b"a")
                time.sleep(0.05)
        assert time.monotonic() - began < 10


def test_a_client_that_does_not_read_is_ended_and_costs_little(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "_ANSWER_SECONDS", 1.0)
    large = b"x" * (16 << 20)
    with served(page=lambda: large) as port, contextlib.ExitStack() as stack:
        before = resident_bytes()
        deaf = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
            for _ in range(MOST_OF_ONE // 2)
        ]
        for each in deaf:
            each.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        time.sleep(0.3)
        assert resident_bytes() - before < len(large)
        began = time.monotonic()
        assert get(port) == (200, large)  # at the same time
        assert time.monotonic() - began < 30
        time.sleep(max(0.0, began + 2 - time.monotonic()))
        got = 0
        with contextlib.suppress(ConnectionResetError):
            while part := deaf[0].recv(1 << 20):
                got += len(part)
        assert got < 2 << 20  # in the kernel's memory; by default it lets that grow to 4 MiB


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_one_address_has_no_more_than_its_share() -> None:
    class Task:
        cancelled = False

        def cancel(self) -> None:
            self.cancelled = True

        def add_done_callback(self, done: object) -> None:
            pass

    def add(owner: str) -> Task:
        task = Task()
        limited.add(task, owner)  # type: ignore[arg-type]
        return task

    limited = connections.Connections()
    scraper = add("scraper")
    crowd = [add("crowd") for _ in range(MOST_OF_ONE + 1)]
    assert [task.cancelled for task in crowd] == [True] + [False] * MOST_OF_ONE
    others = [add(f"other {number}") for number in range(MOST - MOST_OF_ONE - 1)]
    add("late")  # the limit of all: the largest crowd gives way
    assert [task.cancelled for task in crowd[:3]] == [True, True, False]
    assert not any(task.cancelled for task in (scraper, *others))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("127.0.0.1", "127.9.9.9", True),
        ("::1", "127.0.0.1", True),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2", True),
    ],
)
def test_who_is_behind_an_address(one: str, other: str, same: bool) -> None:
    assert (owner(one) == owner(other)) is same


def test_passwords(tmp_path: Path) -> None:
    asked = config(tmp_path, f"basic_auth_users:\n  ada: {hashed(SECRET)}\n")
    assert asked.keeps_out
    with served(config=asked) as port:
        for _ in range(2):  # what was let in once is remembered, and nothing else
            assert get(port, headers=basic("ada", SECRET)) == (200, PAGE)
            for headers in (
                {},
                basic("ada", "wrong"),
                basic("ada", ""),
                basic("eve", SECRET),
                basic("ada", SECRET + "x"),
                {"Authorization": "Basic ???"},
                {"Authorization": "Basic /w=="},
                {"Authorization": "Bearer x"},
            ):
                assert get(port, headers=headers) == (401, b"Unauthorized\n")
                assert get(port, "/other", headers=headers)[0] == 401


def with_tls(tmp_path: Path, certificate: Path) -> WebConfig:
    return config(
        tmp_path,
        f"tls_server_config:\n  cert_file: {certificate}/cert.pem\n"
        f"  key_file: {certificate}/key.pem\n  min_version: TLS13\n",
    )


def test_tls(tmp_path: Path, certificate: Path) -> None:
    asked = with_tls(tmp_path, certificate)
    assert not asked.keeps_out  # it hides what is said, and is said to anybody
    trusting = ssl.create_default_context(cafile=str(certificate / "cert.pem"))
    with served(config=asked) as port:
        with socket.create_connection(("127.0.0.1", port)):  # speaks no TLS: holds up nobody
            assert get(port, context=trusting) == (200, PAGE)
        with pytest.raises((http.client.HTTPException, OSError)):
            get(port)
        trusting.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(OSError, match=r"(?i)protocol|version|EOF|reset"):
            get(port, context=trusting)


def test_client_certificates(tmp_path: Path, certificate: Path) -> None:
    asked = config(
        tmp_path,
        f"tls_server_config:\n  cert_file: {certificate}/cert.pem\n"
        f"  key_file: {certificate}/key.pem\n  client_ca_file: {certificate}/cert.pem\n"
        "  client_auth_type: RequireAndVerifyClientCert\n",
    )
    assert asked.keeps_out
    trusting = ssl.create_default_context(cafile=str(certificate / "cert.pem"))
    with served(config=asked) as port:
        with pytest.raises((http.client.HTTPException, OSError)):
            get(port, context=trusting)
        trusting.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
        assert get(port, context=trusting) == (200, PAGE)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "it is no mapping"),
        ("a: [", "is no web config"),
        ("basic_auth_usres: {}", "unknown: basic_auth_usres"),
        ("basic_auth_users: [a]", "are mappings"),
        ("basic_auth_users: {a: secret}", "no bcrypt hash"),
        ("basic_auth_users: {a: $2b$10$short}", "no bcrypt hash"),
        ("tls_server_config: {cert_file: a}", "needs cert_file and key_file"),
        ("tls_server_config: {cert_file: a, key_file: b}", "cannot be taken"),
        ("tls_server_config: {cert_file: a, key_file: b, ciphers: c}", "unknown in tls"),
        ("tls_server_config: {cert_file: a, key_file: b, min_version: TLS10}", "is not known"),
        (
            "tls_server_config: {cert_file: a, key_file: b, client_auth_type: "
            "RequireAndVerifyClientCert}",
            "needs client_ca_file",
        ),
    ],
)
def test_a_bad_web_config_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(CowtraceError, match=message) as raised:
        config(tmp_path, text)
    assert "secret" not in str(raised.value)


def test_an_empty_web_config_keeps_nobody_out(tmp_path: Path) -> None:
    assert not config(tmp_path, "").keeps_out
    with pytest.raises(CowtraceError, match="cannot read"):
        webconfig.read(tmp_path / "none.yml")


@pytest.mark.parametrize(
    ("listen", "found"),
    [("127.0.0.1:9435", ("127.0.0.1", 9435)), ("[::1]:1", ("::1", 1)), (":9435", ("", 9435))],
)
def test_addresses(listen: str, found: tuple[str, int]) -> None:
    assert address(listen) == found


@pytest.mark.parametrize("listen", ["9435", "localhost", "a:b", "a:99999", "a:", "a:-1", "a:²"])
def test_no_addresses(listen: str) -> None:
    with pytest.raises(CowtraceError, match="no address"):
        address(listen)


def test_loopback() -> None:
    assert [is_loopback(host) for host in ("127.0.0.1", "127.9.9.9", "::1")] == [True] * 3
    assert [is_loopback(host) for host in ("", "0.0.0.0", "::", "192.0.2.1")] == [False] * 4


@pytest.mark.parametrize("listen", [":0", "0.0.0.0:0", "[::]:0", "192.0.2.1:0"])
def test_it_does_not_listen_beyond_this_machine_unasked(tmp_path: Path, listen: str) -> None:
    pytest.importorskip("prometheus_client")
    (tmp_path / "web.yml").write_text("")
    for more in ([], ["--web-config", str(tmp_path / "web.yml")]):
        result = CliRunner().invoke(main, ["export", "prometheus", "--listen", listen, *more])
        assert result.exit_code == EXIT_USAGE
        assert "other machines could read the metrics" in result.stderr
        assert "--allow-remote" in result.stderr


def test_a_port_that_is_taken_is_two_lines() -> None:
    with (
        served() as port,
        pytest.raises(CowtraceError, match=r"cannot listen at 127\.0\.0\.1"),
        served(port=port),
    ):
        pytest.fail("two servers at one port")


def test_a_password_is_taken_in_basic_authentication_only() -> None:
    given = basic("ada", SECRET)["Authorization"]
    assert credentials(given.replace("Basic", "Digest")) is None
    assert credentials(given.replace("Basic", "basic")) == ("ada", SECRET.encode())


def test_an_unknown_name_is_kept_out_whatever_its_password() -> None:
    known = Passwords({"ada": hashed(SECRET)})
    known._matches = lambda password, hashed_password: True
    assert not known.check(passwords.Credentials("eve", SECRET.encode()))
    assert known.check(passwords.Credentials("ada", b"\0"))


def test_an_unknown_name_takes_as_long_as_a_known_one() -> None:
    """Also where the hashes cost more than the usual ones."""
    known = Passwords({"ada": bcrypt.hashpw(SECRET.encode(), bcrypt.gensalt(11)).decode()})

    def seconds(name: str) -> float:
        took = []
        for _ in range(3):
            began = time.process_time()
            known.check(passwords.Credentials(name, b"wrong"))
            took.append(time.process_time() - began)
        return statistics.median(took)

    assert 0.7 < seconds("eve") / seconds("ada") < 1.4


def test_only_what_was_right_is_remembered() -> None:
    known = Passwords({"ada": hashed(SECRET)})
    right = passwords.Credentials("ada", SECRET.encode())
    for wrong in ("", "x", "\0", "\0" * 100, SECRET[:-1], SECRET * 9):
        given = passwords.Credentials("ada", wrong.encode())
        assert not known.check(given)
        assert not known.remembers(given)
    assert not known.remembers(right)
    assert known.check(right)
    assert known.remembers(right)
    assert not known.remembers(passwords.Credentials("ada", b""))
    assert not known.remembers(passwords.Credentials("eve", SECRET.encode()))
    assert len(known._right) == 1


def test_wrong_passwords_delay_no_known_client(tmp_path: Path) -> None:
    costly = bcrypt.hashpw(SECRET.encode(), bcrypt.gensalt(11)).decode()
    asked = config(tmp_path, f"basic_auth_users:\n  ada: {costly}\n")
    with served(config=asked) as port, contextlib.ExitStack() as stack:
        assert get(port, headers=basic("ada", SECRET))[0] == 200
        wrong = basic("ada", "wrong")["Authorization"]
        for _ in range(MOST_OF_ONE - 1):
            guessing = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            guessing.sendall(f"GET / HTTP/1.1\r\nAuthorization: {wrong}\r\n\r\n".encode())
        began = time.monotonic()
        assert get(port, headers=basic("ada", SECRET))[0] == 200
        assert time.monotonic() - began < 1


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /metrics HTTP/1.1\r\nHost: localhost:1\r\n\r\n", 200),
        (b"GET /metrics HTTP/1.0\r\n\r\n", 200),
        (b"GET /metrics HTTP/1.1\r\nHost: [::1]:1\r\n\r\n", 200),
        (b"GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421),
        (b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1.evil.example\r\n\r\n", 421),
        (b"GET /metrics HTTP/1.1\r\nHost: 192.0.2.1\r\n\r\n", 421),
        (b"GET /metrics HTTP/1.1\r\nHost:\r\n\r\n", 421),
        (b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nHost : localhost\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", 400),
        (b"GET  /metrics HTTP/1.1\r\n\r\n", 400),
        (b"GET /metrics\r\n\r\n", 400),
        (b"\r\n\r\n", 400),
        (b"\x16\x03\x01\xff\r\n\r\n", 400),
        (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n", 431),
        (b"GET /metrics HTTP/1.1\r\n" + b"a: b\r\n" * 3_000 + b"\r\n", 431),
        (b"HEAD /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", 200),
        (b"POST /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
    ],
)
def test_requests(request_: bytes, status: int) -> None:
    with served() as port:
        found, fields, content = raw(port, request_)
    assert found == status
    assert fields["x-content-type-options"] == "nosniff"
    assert fields["content-security-policy"].startswith("default-src 'none'")
    assert (content == PAGE) is (status == 200 and request_.startswith(b"GET"))
    if request_.startswith(b"HEAD"):
        assert (fields["content-length"], content) == (str(len(PAGE)), b"")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST.:9", "a.localhost", "127.3.2.1:80", "me"])
def test_hosts_that_are_this_machine(host: str) -> None:
    assert names_this_machine(host, ("me",))


@pytest.mark.parametrize(
    "host",
    ["", "evil", "localhost.evil", "127.0.0.1.", "[::2]", "0.0.0.0", "me.evil", "a@localhost"],
)
def test_hosts_that_are_not(host: str) -> None:
    assert names_this_machine(host, ("me",)) is (host == "127.0.0.1.")


def test_a_server_for_other_machines_has_any_name() -> None:
    with served("0.0.0.0") as port:
        assert raw(port, b"GET /metrics HTTP/1.1\r\nHost: it.example\r\n\r\n")[0] == 200


@hypothesis.given(
    strategies.one_of(
        strategies.binary(max_size=300),
        strategies.text("GET /:HTPs1.\r\n \t\0é", max_size=80).map(str.encode),
    )
)
def test_whatever_is_sent_is_parsed_or_refused(sent: bytes) -> None:
    found = parse(sent + b"\r\n\r\n")
    fields = found.fields if found else {"host": sent.decode("latin-1")}
    names_this_machine(fields.get("host"), ("me",))
    for kind in ("", "Basic "):
        given = credentials(kind + sent.decode("latin-1"))
        assert given is None or given.name == given.name.encode().decode()


def test_a_head_is_parsed() -> None:
    found = parse(b"GET /a?b HTTP/1.1\r\nHost:x\r\nA-b: \tc d \r\n\r\n")
    assert found
    assert (found.method, found.path, found.fields) == ("GET", "/a", {"host": "x", "a-b": "c d"})


def test_a_name_with_one_address_beyond_this_machine_is_not_loopback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = [(0, 0, 0, "", (each, 0)) for each in ("127.0.0.1", "192.0.2.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: found)
    assert not is_loopback("both.example")


class Web:
    """A web config that is read again, and what was reported."""

    def __init__(self, path: Path) -> None:
        self.path, self.reports = path, list[str]()
        self.reloading = Reloading(path, self.demand, self.reports.append)

    def demand(self, config: WebConfig) -> None:
        if not config.keeps_out:
            raise CowtraceError("it lets everybody in", hint="")

    def write(self, text: str) -> None:
        staged = self.path.with_suffix(".new")
        staged.write_text(text)
        staged.chmod(0o600)
        staged.replace(self.path)
        self.reloading.refresh()

    def lets_in(self, name: str) -> bool:
        given = passwords.Credentials(name, SECRET.encode())
        return self.reloading.current.passwords.check(given)


@pytest.fixture
def web(tmp_path: Path) -> Web:
    path = tmp_path / "web.yml"
    path.write_text(f"basic_auth_users:\n  ada: {hashed(SECRET)}\n")
    path.chmod(0o600)
    return Web(path)


def test_a_changed_web_config_is_read_again(web: Web) -> None:
    web.reloading.refresh()
    assert web.reports == []
    web.write(f"basic_auth_users:\n  eve: {hashed(SECRET)}\n")
    assert (web.lets_in("ada"), web.lets_in("eve")) == (False, True)
    assert web.reports == [f"{web.path} was read again"]


@pytest.mark.parametrize("text", ["a: [", "basic_auth_users: {eve: secret}", "", "\0", "[" * 2999])
def test_a_broken_web_config_keeps_that_from_before(web: Web, text: str) -> None:
    """Also one that lets everybody in where that was refused at the start."""
    web.write(text)
    for _ in range(3):
        web.reloading.refresh()
    assert web.lets_in("ada")
    assert not web.reloading.good
    (report,) = web.reports
    assert report.endswith("the web config from before stays in use")
    assert "secret" not in report
    web.path.unlink()
    web.reloading.refresh()
    web.reloading.refresh()
    assert len(web.reports) == 2
    web.write(f"basic_auth_users:\n  eve: {hashed(SECRET)}\n")
    assert web.reloading.good
    assert web.lets_in("eve")


def test_a_renewed_certificate_is_taken(tmp_path: Path, certificate: Path) -> None:
    """Its key comes later: until then, the pair does not match."""
    for name in ("cert.pem", "key.pem"):
        shutil.copy(certificate / name, tmp_path)
    (tmp_path / "web.yml").write_text(
        "tls_server_config: {cert_file: cert.pem, key_file: key.pem}\n"
    )
    reports: list[str] = []
    reloading = Reloading(tmp_path / "web.yml", lambda config: None, reports.append)
    first = reloading.current.tls
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout",
         "new.pem", "-out", "cert.pem", "-subj", "/CN=new"],
        cwd=tmp_path, check=True, capture_output=True,
    )  # fmt: skip
    reloading.refresh()
    assert (reloading.good, reloading.current.tls) == (False, first)
    (tmp_path / "new.pem").replace(tmp_path / "key.pem")
    reloading.refresh()
    assert reloading.good
    assert reloading.current.tls is not first


def test_it_refreshes_by_itself(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cowtrace.prometheus.reloading._LOOK_SECONDS", 0.05)
    with web.reloading.refreshed():
        web.path.write_text(f"basic_auth_users:\n  eve: {hashed(SECRET)}\n")
        end = time.monotonic() + 30
        while not web.lets_in("eve") and time.monotonic() < end:
            time.sleep(0.05)
    assert web.lets_in("eve")


@pytest.mark.parametrize("name", ["web.yml", "cert.pem", "key.pem", "ca.pem"])
@pytest.mark.parametrize("what", ["fifo", "large", "folder", "terminal"])
def test_a_file_that_would_hang_or_fill_memory_is_refused(
    tmp_path: Path, certificate: Path, name: str, what: str
) -> None:
    for each in ("cert.pem", "key.pem"):
        shutil.copy(certificate / each, tmp_path)
    shutil.copy(certificate / "cert.pem", tmp_path / "ca.pem")
    (tmp_path / "web.yml").write_text(
        "tls_server_config: {cert_file: cert.pem, key_file: key.pem, client_ca_file: ca.pem}\n"
    )
    webconfig.read(tmp_path / "web.yml")
    (tmp_path / name).unlink()
    if what == "fifo":
        os.mkfifo(tmp_path / name)
    elif what == "large":
        with (tmp_path / name).open("wb") as file:
            file.truncate(10 << 30)
    elif what == "folder":
        (tmp_path / name).mkdir()
    else:
        (tmp_path / name).symlink_to("/dev/ptmx")
    began = time.monotonic()
    with pytest.raises(CowtraceError, match="no regular file"):
        webconfig.read(tmp_path / "web.yml")
    assert time.monotonic() - began < 5


def test_a_key_with_a_passphrase_asks_for_none(tmp_path: Path, certificate: Path) -> None:
    subprocess.run(
        ["openssl", "rsa", "-aes128", "-passout", "pass:secret", "-in", certificate / "key.pem",
         "-out", tmp_path / "key.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    with pytest.raises(CowtraceError, match="cannot be taken"):
        config(
            tmp_path,
            f"tls_server_config: {{cert_file: {certificate}/cert.pem, key_file: key.pem}}\n",
        )


@pytest.mark.parametrize(
    ("mode", "warning"),
    [(0o600, ""), (0o640, ""), (0o644, "read"), (0o620, "write"), (0o602, "write")],
)
def test_files_that_others_can_read_are_warned_of(
    tmp_path: Path, certificate: Path, mode: int, warning: str
) -> None:
    for name in ("cert.pem", "key.pem"):
        shutil.copy(certificate / name, tmp_path)
        (tmp_path / name).chmod(mode)
    path = tmp_path / "web.yml"
    path.write_text(
        "tls_server_config: {cert_file: cert.pem, key_file: key.pem}\n"
        f"basic_auth_users: {{ada: {hashed(SECRET)}}}\n"
    )
    path.chmod(mode)
    found = webconfig.read(path).warnings
    expected = [path, tmp_path / "key.pem"] if warning else []
    assert [f"other users can {warning} {each}" in told for each, told in zip(
        expected, found, strict=True
    )] == [True] * len(expected)  # fmt: skip
