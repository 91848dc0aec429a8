"""Who signed: RSA signatures and certificates, by the ``openssl`` program.

A signature is opened with the public key (RFC 8017, RSASSA-PKCS1-v1_5), and what comes out is compared here. That is
the same for both signatures, and some systems' openssl refuses to *verify* anything with SHA-1 by policy.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Collection
from pathlib import Path

from neurocommand import process
from neurocommand.cvmfs.letters import PUBLISHED, WHITELIST, Letter
from neurocommand.errors import CvmfsError, CvmfsUntrustedError

_SECONDS = 60.0
# RFC 8017 §9.2, note 1: the DER encoding of a DigestInfo with SHA-1, which the 20 bytes of the digest follow.
_SHA1_INFO = bytes.fromhex("3021300906052b0e03021a05000414")


def check_whitelist(signed: Letter, public_key: Path) -> None:
    """See that the repository's master key signed a whitelist.

    Args:
        signed: the whitelist.
        public_key: the file of the master public key.

    Raises:
        CvmfsError: the key cannot be read, or is none.
        CvmfsUntrustedError: another key signed, or nobody did.
        ProcessError: there is no openssl.
    """
    with tempfile.TemporaryDirectory(prefix="neurocommand-") as place:
        key = Path(place) / "master.pub"
        key.write_bytes(_key(public_key))
        # signed is the text of the hash itself, without a name of its algorithm
        if _opened(key, signed.signature, Path(place)) == signed.sha1.encode():
            return
    check_key(public_key)
    hint = f"is {public_key} the key of this repository? If so, somebody changed the whitelist: ask who runs the server"
    raise CvmfsUntrustedError(f"{WHITELIST} is not signed by the key {public_key}", hint)


def check_key(public_key: Path) -> None:
    """See that a file is a public key.

    Raises:
        CvmfsError: it cannot be read, or is none.
        ProcessError: there is no openssl.
    """
    with tempfile.TemporaryDirectory(prefix="neurocommand-") as place:
        key = Path(place) / "key.pub"
        key.write_bytes(_key(public_key))
        if process.run(["openssl", "pkey", "-pubin", "-in", str(key), "-noout"], timeout=_SECONDS, check=False).code:
            raise CvmfsError(f"{public_key}: is no public key in PEM", "copy the repository's .pub file there")


def check_manifest(signed: Letter, certificate: bytes, fingerprints: Collection[str]) -> None:
    """See that a certificate of the whitelist signed a repository's manifest.

    Args:
        signed: the manifest.
        certificate: the certificate that it names, in PEM.
        fingerprints: the whitelist's.

    Raises:
        CvmfsUntrustedError: the certificate is none or not on the list, or another one signed.
        ProcessError: there is no openssl.
    """
    with tempfile.TemporaryDirectory(prefix="neurocommand-") as name:
        place = Path(name)
        (place / "certificate.pem").write_bytes(certificate)
        # everything further is asked of the one certificate that has this DER form, whatever else the file holds
        found = _x509(place, "-in", "certificate.pem", "-outform", "DER", "-out", "certificate.der")
        if not found:
            raise CvmfsUntrustedError("the certificate of the repository is none", "ask who runs the server")
        fingerprint = _fingerprint((place / "certificate.der").read_bytes())
        if fingerprint not in fingerprints:
            hint = (
                "a revision was signed by somebody else: sign the whitelist anew (cvmfs_server resign), or ask who did"
            )
            raise CvmfsUntrustedError(f"the certificate {fingerprint} is not on the whitelist", hint)
        key = place / "certificate.pub"
        if not _x509(place, "-inform", "DER", "-in", "certificate.der", "-pubkey", "-noout", "-out", key.name):
            raise CvmfsUntrustedError("the certificate of the repository has no public key", "ask who runs the server")
        expected = _SHA1_INFO + hashlib.sha1(signed.sha1.encode(), usedforsecurity=False).digest()
        if _opened(key, signed.signature, place) != expected:
            hint = "somebody changed it on its way, or on the server: ask who runs the server"
            raise CvmfsUntrustedError(f"{PUBLISHED} is not signed by the repository's certificate", hint)


def _key(path: Path) -> bytes:
    try:
        with open(path, "rb") as source:
            return source.read(1 << 16)
    except OSError as error:
        raise CvmfsError(
            f"{path}: {error.strerror}", "set cvmfs.public_key to the file of the repository's master public key"
        ) from error


def _opened(key: Path, signature: bytes, place: Path) -> bytes | None:
    """Return what an RSA signature holds; None where the key does not open it."""
    given, opened = place / "signature", place / "opened"
    given.write_bytes(signature)
    argv = [
        "openssl",
        "pkeyutl",
        "-verifyrecover",
        "-pubin",
        "-inkey",
        str(key),
        "-in",
        str(given),
        "-out",
        str(opened),
    ]
    done = process.run(argv, timeout=_SECONDS, check=False)
    return opened.read_bytes() if done.code == 0 and opened.is_file() else None


def _x509(place: Path, *words: str) -> bool:
    """Let openssl make something of a certificate, from file to file."""
    return process.run(["openssl", "x509", *words], cwd=place, timeout=_SECONDS, check=False).code == 0


def _fingerprint(der: bytes) -> str:
    """Return a certificate's fingerprint as whitelists write it."""
    return hashlib.sha1(der, usedforsecurity=False).digest().hex(":").upper()
