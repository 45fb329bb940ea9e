import datetime
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from shutil import which

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.provenance.conftest import film
from vasa_jax.errors import UserError
from vasa_jax.provenance.detector import examine
from vasa_jax.provenance.keys import configuration_folder, given_signing, own_signing, try_signing

STAMPS = """[tsa]
default_tsa = clock
[clock]
serial = {0}/serial
signer_cert = {0}/clock.pem
certs = {0}/clock.pem
signer_key = {0}/clock.key
signer_digest = sha256
default_policy = 1.2.3.4
digests = sha256, sha384, sha512
ess_cert_id_alg = sha256
"""


def issue(folder: Path, key, years=1, password=None) -> tuple[Path, Path]:
    """A certificate for a key that an authority of the test's own issued, and the key, as files."""
    above = ec.generate_private_key(ec.SECP256R1())
    start = datetime.datetime(2020, 1, 1)
    builder = (
        x509.CertificateBuilder()
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "an authority")]))
        .subject_name(x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "a studio")]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=365 * years))
        .add_extension(x509.BasicConstraints(False, None), critical=True)
        .add_extension(x509.KeyUsage(True, False, False, False, False, False, False, False, False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(above.public_key()), critical=False)
    )
    (folder / "cert.pem").write_bytes(builder.sign(above, hashes.SHA256()).public_bytes(Encoding.PEM))
    how = BestAvailableEncryption(password) if password else NoEncryption()
    (folder / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how))
    return folder / "cert.pem", folder / "key.pem"


def test_a_key_is_made_once_for_its_owner_alone(settings):
    first = own_signing()
    path = settings / "signing.pem"
    assert path.stat().st_mode & 0o777 == 0o600 and settings.stat().st_mode & 0o077 == 0
    assert own_signing() == first and "PRIVATE" not in repr(first)
    try_signing(first)
    path.unlink()
    assert own_signing() != first
    assert [inside.name for inside in settings.iterdir()] == ["signing.pem"]


def test_of_many_that_make_a_key_at_once_one_wins(settings):
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: own_signing(), range(8)))
    assert len(set(made)) == 1


@pytest.mark.parametrize("damage, said", [(b"", "no certificate with its key"), (b"-----BEGIN CERTIFICATE", "no cert")])
def test_a_damaged_key_names_the_way_out(settings, damage, said):
    own_signing()
    (settings / "signing.pem").write_bytes(damage)
    with pytest.raises(UserError, match=f"{said}.*remove it and get a new one"):
        own_signing()


def test_a_key_that_others_can_read_is_refused(settings):
    own_signing()
    (settings / "signing.pem").chmod(0o644)
    with pytest.raises(UserError, match=r"signing.pem is open to others; chmod 600 it"):
        own_signing()


def test_a_configuration_folder_that_cannot_be_made_is_named(settings, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file"))
    with pytest.raises(UserError, match="cannot keep the signing key in .*set XDG_CONFIG_HOME"):
        own_signing()


def test_each_system_has_its_place(monkeypatch):
    monkeypatch.delenv("XDG_CONFIG_HOME")
    for platform, part in (("linux", ".config"), ("darwin", "Application Support"), ("win32", "Roaming")):
        monkeypatch.setattr(sys, "platform", platform)
        assert part in str(configuration_folder()) and configuration_folder().name == "vasa-jax"


@pytest.mark.parametrize(
    "key, algorithm",
    [
        (lambda: ec.generate_private_key(ec.SECP384R1()), "es384"),
        (ed25519.Ed25519PrivateKey.generate, "ed25519"),
        (lambda: rsa.generate_private_key(65537, 2048), "ps256"),
    ],
)
def test_a_certificate_that_is_given_signs(tmp_path, provenance, key, algorithm):
    signing = given_signing(*issue(tmp_path, key(), years=30))
    assert signing.algorithm == algorithm
    try_signing(signing)
    report = examine(film(tmp_path / "a.png", provenance, signing))
    assert (report.verdict, report.signer, report.trusted) == ("marked", "a studio", False)


def test_what_cannot_sign_is_refused_before_any_work(tmp_path):
    def curve():
        return ec.generate_private_key(ec.SECP256R1())

    with pytest.raises(UserError, match="cannot read .*nothing.pem"):
        given_signing(tmp_path / "nothing.pem", tmp_path / "nothing.pem")
    cert, key = issue(tmp_path, curve(), password=b"secret")
    with pytest.raises(UserError, match="no password"):
        given_signing(cert, key)
    with pytest.raises(UserError, match="kind of key"):
        given_signing(*issue(tmp_path, ec.generate_private_key(ec.SECP256K1())))
    with pytest.raises(UserError, match="nothing can be signed"):
        try_signing(given_signing(*issue(tmp_path, curve(), years=1)))  # it has expired
    cert, key = issue(tmp_path, curve(), years=30)
    key.write_bytes(curve().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(UserError, match="nothing can be signed"):
        try_signing(given_signing(cert, key))
    with pytest.raises(UserError, match="--tsa example.org is no URL"):
        own_signing("example.org")
    with pytest.raises(UserError, match="the time stamp authority http://127.0.0.1:9/ does not answer"):
        try_signing(own_signing("http://127.0.0.1:9/"))


@pytest.fixture
def authority(tmp_path):
    """OpenSSL as a time stamp authority; gives its address and what ends it."""
    if which("openssl") is None:
        pytest.skip("needs the openssl command")
    (tmp_path / "serial").write_text("01\n")
    (tmp_path / "conf").write_text(STAMPS.format(tmp_path))
    made = ["-keyout", "clock.key", "-out", "clock.pem", "-days", "9", "-subj", "/O=clock/CN=clock", "-nodes"]
    for extension in (
        "extendedKeyUsage=critical,timeStamping",
        "keyUsage=critical,digitalSignature",
        "basicConstraints=CA:FALSE",
    ):
        made += ["-addext", extension]
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    subprocess.run(["openssl", "req", "-x509", *curve, *made], cwd=tmp_path, check=True, capture_output=True)

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            (tmp_path / "query").write_bytes(self.rfile.read(int(self.headers["Content-Length"])))
            files = ["-config", "conf", "-queryfile", "query", "-out", "reply"]
            subprocess.run(["openssl", "ts", "-reply", *files], cwd=tmp_path, check=True, capture_output=True)
            reply = (tmp_path / "reply").read_bytes()
            self.send_response(200)
            self.send_header("Content-Type", "application/timestamp-reply")
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, *_) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def end() -> None:
        server.shutdown()
        server.server_close()

    yield f"http://127.0.0.1:{server.server_port}/", end
    end()


def test_a_time_stamp_is_asked_for_and_its_absence_loses_no_video(tmp_path, provenance, authority, caplog):
    address, end = authority
    signing = own_signing(address)
    try_signing(signing)
    assert examine(film(tmp_path / "a.png", provenance, signing)).stamped
    end()
    report = examine(film(tmp_path / "b.png", provenance, signing))
    assert report.verdict == "marked" and report.stamped is None
    assert "b.png has no time stamp" in caplog.text


def test_the_detector_and_the_package_import_no_seals_until_they_are_needed():
    code = "import sys, vasa_jax, vasa_jax.provenance; print(*sorted({n.partition('.')[0] for n in sys.modules}))"
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=os.environ)
    assert not {"c2pa", "cryptography", "jax"} & set(run.stdout.split())
