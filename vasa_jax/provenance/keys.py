"""What signs: a key of this machine, made on first use, or a certificate and its key that are given.

C2PA takes no certificate that signed itself; so a certificate for the new key is issued by a root whose own key is
forgotten at once. Nobody certified either: a reader finds such a signature intact and its certificate untrusted. All
files of a key can be told to come from one machine; who deletes `signing.pem` starts anew. Keys in hardware (PKCS#11)
are not offered.
"""

import dataclasses
import datetime
import io
import os
import secrets
import sys
from pathlib import Path
from typing import Any

from vasa_jax.errors import UserError, reason, refusals

NAME = "signing.pem"
"""The file with the key of this machine, its certificate and the root's."""
ORGANISATION = "vasa-jax on somebody's machine, certified by nobody"
BEGIN, END = datetime.datetime(2020, 1, 1), datetime.datetime(2060, 1, 1)
"""When certificates of this machine are valid: whatever its clock says."""
CURVES = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}
"""Elliptic curves, and what C2PA calls signatures with each."""
TRIAL = bytes.fromhex(  # a PNG picture of one black pixel
    "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b55"
    "0000000a49444154789c6360000000020001e527defc0000000049454e44ae426082"
)


@dataclasses.dataclass(frozen=True)
class Signing:
    """What signs, and who is asked for the time.

    Attributes:
        certificates: PEM, the signer's first, then those who certified it.
        key: PEM, without a password.
        algorithm: as C2PA calls it, "es256".
        stamp: URL of a time stamp authority (RFC 3161), or None.
    """

    certificates: str
    key: str = dataclasses.field(repr=False)
    algorithm: str = "es256"
    stamp: str | None = None


def configuration_folder() -> Path:
    """Where a user's settings are kept on this system: XDG_CONFIG_HOME, or the folder that is usual there."""
    if given := os.environ.get("XDG_CONFIG_HOME"):
        return Path(given) / "vasa-jax"
    if sys.platform == "darwin":
        return Path("~/Library/Application Support/vasa-jax").expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("APPDATA") or "~/AppData/Roaming").expanduser() / "vasa-jax"
    return Path("~/.config/vasa-jax").expanduser()


def own_signing(stamp: str | None = None) -> Signing:
    """The key of this machine, made where there is none yet; of several processes that make one, one wins.

    Raises:
        UserError: the configuration folder cannot be written to, or the file is no key or readable by others.
    """
    path = configuration_folder() / NAME
    if not path.exists():
        _keep(path, _make())
    with refusals("read", path, advice="make it readable for yourself, or name a key with --sign-with CERT KEY"):
        mode, text = path.stat().st_mode, path.read_bytes()
    if mode & 0o077 and os.name == "posix":
        raise UserError(f"the signing key {path} is open to others; chmod 600 it, or remove it and get a new one")
    at = text.find(b"-----BEGIN CERTIFICATE")
    return _signing(text[max(at, 0) :], text[: max(at, 0)], f"{path}; remove it and get a new one", stamp)


def given_signing(certificates: str | os.PathLike, key: str | os.PathLike, stamp: str | None = None) -> Signing:
    """A certificate chain and its key, PEM files.

    Args:
        certificates: the signer's certificate first, then those who certified it, without the root.
        key: P-256, P-384, P-521, RSA or Ed25519, without a password.
        stamp: URL of a time stamp authority, or None.

    Raises:
        UserError: files that cannot be read or used.
    """

    def read(path: str | os.PathLike) -> bytes:
        with refusals("read", path, advice="name a certificate and its key (PEM)"):
            return Path(path).read_bytes()

    return _signing(read(certificates), read(key), f"{os.fspath(certificates)} and {os.fspath(key)}", stamp)


def try_signing(signing: Signing) -> None:
    """Sign a picture of one pixel and read it again, before any work.

    Raises:
        UserError: the key does not belong to the certificate, C2PA does not take the certificate (it has expired, or is
            for another purpose), or the time stamp authority does not answer.
    """
    import c2pa

    trial, signed = c2pa.Builder({"title": "trial"}, make_context(signing, verify=True)), io.BytesIO()
    trial.set_intent(c2pa.C2paBuilderIntent.CREATE, c2pa.C2paDigitalSourceType.DIGITAL_CREATION)
    try:
        trial.sign("image/png", io.BytesIO(TRIAL), signed)
    except c2pa.C2paError as error:
        asked = f" or the time stamp authority {signing.stamp} does not answer" if signing.stamp else ""
        raise UserError(
            f"nothing can be signed with this certificate and key{asked} ({reason(error)[:200]}); C2PA wants a "
            "certificate for signing documents or e-mail that is valid now, its chain, and the key that belongs to it"
        ) from error


def make_context(signing: Signing, verify: bool = False) -> Any:
    """What c2pa signs with; it leaves the network alone, the time stamp apart.

    Raises UserError for a key or certificate that it cannot read.
    """
    import c2pa

    settings = {
        "verify": {"verify_after_sign": verify, "remote_manifest_fetch": False},
        "builder": {"thumbnail": {"enabled": False}},
    }
    info = c2pa.C2paSignerInfo(signing.algorithm, signing.certificates.encode(), signing.key.encode(), signing.stamp)
    try:
        return c2pa.Context.from_dict(settings, c2pa.Signer.from_info(info))
    except c2pa.C2paError as error:
        raise UserError(f"C2PA cannot sign with this certificate and key: {reason(error)[:200]}") from error


def _signing(certificates: bytes, key: bytes, name: str, stamp: str | None) -> Signing:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    if stamp is not None and not stamp.startswith(("http://", "https://")):
        raise UserError(f"--tsa {stamp} is no URL of a time stamp authority; give one that begins with http")
    try:
        x509.load_pem_x509_certificates(certificates)
        private: Any = load_pem_private_key(key, None)
    except (ValueError, TypeError) as error:  # TypeError: it has a password
        raise UserError(
            f"there is no certificate with its key (PEM, no password) in {name}: {reason(error)}"
        ) from error
    if isinstance(private, ec.EllipticCurvePrivateKey) and private.curve.name in CURVES:
        algorithm = CURVES[private.curve.name]
    elif isinstance(private, rsa.RSAPrivateKey):
        algorithm = "ps256"
    elif isinstance(private, ed25519.Ed25519PrivateKey):
        algorithm = "ed25519"
    else:
        raise UserError(f"C2PA does not sign with the kind of key in {name}; give P-256, P-384, P-521, RSA or Ed25519")
    return Signing(certificates.decode(errors="replace"), _plain(private), algorithm, stamp)


def _plain(key: Any) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def _make() -> str:
    """A new key (P-256), its certificate and the certificate of the root that issued it, in PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    mark = secrets.token_hex(4)
    root, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    names = [
        x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANISATION),
                x509.NameAttribute(NameOID.COMMON_NAME, f"vasa-jax {what} {mark}"),
            ]
        )
        for what in ("root", "key")
    ]

    def certificate(name: x509.Name, public: Any, authority: bool) -> x509.CertificateBuilder:
        uses = dict.fromkeys(
            ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"), False
        ) | {"encipher_only": False, "decipher_only": False}
        usage = x509.KeyUsage(digital_signature=not authority, key_cert_sign=authority, crl_sign=authority, **uses)
        return (
            x509.CertificateBuilder(names[0], name, public, x509.random_serial_number(), BEGIN, END)
            .add_extension(x509.BasicConstraints(authority, 0 if authority else None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        )

    above = certificate(names[0], root.public_key(), True).sign(root, hashes.SHA256())
    below = (
        certificate(names[1], key.public_key(), False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(root.public_key()), critical=False)
        .sign(root, hashes.SHA256())
    )
    return _plain(key) + "".join(one.public_bytes(Encoding.PEM).decode() for one in (below, above))


def _keep(path: Path, text: str) -> None:
    """Write a file for its owner alone, whole, unless somebody else has written it meanwhile."""
    with refusals(
        "keep the signing key in", path, advice="set XDG_CONFIG_HOME, or name a key with --sign-with CERT KEY"
    ):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        hidden = path.with_name(f".unfinished-{os.getpid()}-{secrets.token_hex(4)}")
        try:
            with open(os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(hidden, path)  # unlike a rename, it replaces nothing
            except FileExistsError:
                return
        finally:
            hidden.unlink(missing_ok=True)
