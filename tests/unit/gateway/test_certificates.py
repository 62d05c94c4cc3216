"""Whose certificates are believed: the same as by httpx2, so that a proxy makes no difference."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

import httpx2
import pytest

from pop_actors.providers.certificates import believed


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate that nobody else believes."""
    path = tmp_path_factory.mktemp("authority") / "own.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=own", "-keyout", "/dev/null", "-out", str(path)],
        check=True,
        capture_output=True,
    )  # fmt: skip
    return path


@pytest.mark.parametrize("variables", [(), ("SSL_CERT_FILE",), ("SSL_CERT_DIR",), ("SSL_CERT_FILE", "SSL_CERT_DIR")])
def test_the_environment_is_read_as_httpx2_reads_it(
    variables: tuple[str, ...], authority: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file before the folder, and either instead of the system's."""
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    for name in variables:
        monkeypatch.setenv(name, str(authority if name == "SSL_CERT_FILE" else authority.parent))
    ours, theirs = believed(), httpx2.create_ssl_context()
    assert _names(ours) == _names(theirs)
    assert (ours.verify_mode, ours.check_hostname) == (theirs.verify_mode, theirs.check_hostname)
    assert (ours.verify_mode, ours.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert ("own" in str(_names(ours))) == ("SSL_CERT_FILE" in variables)


@pytest.mark.parametrize("value", ["nowhere.pem", "empty.pem"])
def test_a_file_without_certificates_is_an_error(value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said at once, and not with every connection."""
    (tmp_path / "empty.pem").touch()
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / value))
    with pytest.raises(OSError, match=r"."):
        believed()


def _names(context: ssl.SSLContext) -> list[str]:
    return sorted(str(certificate["subject"]) for certificate in context.get_ca_certs())
