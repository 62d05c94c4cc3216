"""Whose certificates are believed: those of `SSL_CERT_FILE`, else `SSL_CERT_DIR`, else the system's.

The rules are httpx2's, so that it makes no difference whether there is a proxy; it takes 6 MB, and is loaded
only where there is one.
"""

from __future__ import annotations

import os
import re
import ssl

_SYSTEM_FILES = (
    "/etc/ssl/cert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/cert.pem",
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/ssl/ca-bundle.pem",
)
_HASHED = re.compile(r"[0-9a-fA-F]{8}\.\d")


def believed() -> ssl.SSLContext:
    """For connections that speak HTTP/1.1. OSError for a file or folder in the environment that is none; 20 ms."""
    context = _believed(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))
    context.set_alpn_protocols(["http/1.1"])
    return context


def _believed(file: str | None, folder: str | None) -> ssl.SSLContext:
    if file:
        return ssl.create_default_context(cafile=file)
    if folder:
        return ssl.create_default_context(capath=folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    compiled_in = ssl.get_default_verify_paths()
    own_file = compiled_in.openssl_cafile if os.path.isfile(compiled_in.openssl_cafile) else None
    own_folder = compiled_in.openssl_capath if _has_certificates(compiled_in.openssl_capath) else None
    if own_file is None and own_folder is None:
        own_file = next(filter(os.path.isfile, _SYSTEM_FILES), None)
    if own_file or own_folder:
        context.load_verify_locations(own_file, own_folder)
    return context


def _has_certificates(folder: str) -> bool:
    return os.path.isdir(folder) and any(_HASHED.fullmatch(name) for name in os.listdir(folder))
