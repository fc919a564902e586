"""The server of the metrics: who is let in, and what a web config may say."""

from __future__ import annotations

import base64
import contextlib
import http.client
import shutil
import socket
import ssl
import subprocess
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

pytest.importorskip("yaml", reason="the extra cowtrace[prometheus] is not installed")
pytest.importorskip("bcrypt", reason="the extra cowtrace[prometheus] is not installed")

import bcrypt

from cowtrace.cli import main
from cowtrace.errors import EXIT_USAGE, CowtraceError
from cowtrace.prometheus import server, webconfig
from cowtrace.prometheus.server import MOST_CLIENTS, address, is_loopback, served
from cowtrace.prometheus.webconfig import WebConfig

SECRET = "correct horse: battery"
PAGE = b"cowtrace_faults_total 23\n"


def page(accept: str) -> tuple[bytes, str]:
    return PAGE, f"text/plain; for={accept or 'anybody'}"


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
    with served("127.0.0.1", 0, WebConfig(), page) as port:
        assert get(port) == (200, PAGE)
        assert get(port, "/metrics?name[]=x") == (200, PAGE)
        for path in ("/", "/metrics/../../etc/passwd", "/metricsx"):
            assert get(port, path)[0] == 404
    with pytest.raises(ConnectionRefusedError):
        get(port)


def test_a_client_that_says_nothing_holds_up_nobody() -> None:
    with (
        served("127.0.0.1", 0, WebConfig(), page) as port,
        socket.create_connection(("127.0.0.1", port)),
    ):
        assert get(port) == (200, PAGE)


def test_many_clients_that_say_nothing_are_not_waited_for() -> None:
    with served("127.0.0.1", 0, WebConfig(), page) as port, contextlib.ExitStack() as stack:
        silent = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
            for _ in range(MOST_CLIENTS)
        ]
        # Closed at once, not after the time that the silent ones are given.
        late = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))
        assert late.recv(1) == b""
        silent[0].close()
        for _ in range(100):  # until the server has noticed
            with contextlib.suppress(OSError, http.client.HTTPException):
                assert get(port) == (200, PAGE)
                return
            time.sleep(0.1)
    pytest.fail("no place became free")


def test_passwords(tmp_path: Path) -> None:
    asked = config(tmp_path, f"basic_auth_users:\n  ada: {hashed(SECRET)}\n")
    assert asked.keeps_out
    with served("127.0.0.1", 0, asked, page) as port:
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


def test_tls(tmp_path: Path, certificate: Path) -> None:
    asked = config(
        tmp_path,
        f"tls_server_config:\n  cert_file: {certificate}/cert.pem\n"
        f"  key_file: {certificate}/key.pem\n  min_version: TLS13\n",
    )
    assert not asked.keeps_out  # it hides what is said, and is said to anybody
    trusting = ssl.create_default_context(cafile=str(certificate / "cert.pem"))
    with served("127.0.0.1", 0, asked, page) as port:
        with socket.create_connection(("127.0.0.1", port)):  # speaks no TLS: holds up nobody
            assert get(port, context=trusting) == (200, PAGE)
        with pytest.raises((http.client.HTTPException, OSError)):
            get(port)
        trusting.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(OSError, match=r"(?i)protocol|version"):
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
    with served("127.0.0.1", 0, asked, page) as port:
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
        served("127.0.0.1", 0, WebConfig(), page) as port,
        pytest.raises(CowtraceError, match=r"cannot listen at 127\.0\.0\.1"),
        served("127.0.0.1", port, WebConfig(), page),
    ):
        pytest.fail("two servers at one port")


def test_a_silent_client_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 0 < server._Handler.timeout <= 60
    monkeypatch.setattr(server._Handler, "timeout", 0.1)
    with (
        served("127.0.0.1", 0, WebConfig(), page) as port,
        socket.create_connection(("127.0.0.1", port), timeout=30) as silent,
    ):
        assert silent.recv(1) == b""


def test_a_password_is_taken_in_basic_authentication_only(tmp_path: Path) -> None:
    asked = config(tmp_path, f"basic_auth_users:\n  ada: {hashed(SECRET)}\n")
    given = basic("ada", SECRET)["Authorization"]
    assert not asked.lets_in(given.replace("Basic", "Digest"))
    assert asked.lets_in(given.replace("Basic", "basic"))


def test_an_unknown_name_is_kept_out_whatever_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = config(tmp_path, f"basic_auth_users:\n  ada: {hashed(SECRET)}\n")
    monkeypatch.setattr(webconfig, "_matches", lambda password, known: True)
    assert not asked.lets_in(basic("eve", SECRET)["Authorization"])


def test_a_name_with_one_address_beyond_this_machine_is_not_loopback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = [(0, 0, 0, "", (each, 0)) for each in ("127.0.0.1", "192.0.2.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: found)
    assert not is_loopback("both.example")
