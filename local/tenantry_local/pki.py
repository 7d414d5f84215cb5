"""The certificates and keys of a cluster.

One authority signs all of them. Users are told apart by the subject: the common name is the user,
organizations are groups (https://kubernetes.io/docs/reference/access-authn-authz/authentication/).
"""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tenantry_local.paths import remove_tree, write_private

LIFETIME = datetime.timedelta(days=3650)
RENEW_BEFORE = datetime.timedelta(days=90)
NAMES = ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc")
ADDRESSES = ("127.0.0.1", "::1", "10.0.0.1")


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key, PEM files."""

    certificate: Path
    key: Path


class Pki:
    """The files of one cluster's authority."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.authority = self._pair("ca")
        self.admin = self._pair("admin")
        """The administrator: O=system:masters."""
        self.controller_manager = self._pair("kube-controller-manager")
        self.node = self._pair("node")
        """The node ``local``."""
        self.server = self._pair("server")
        """Serving certificate of kube-apiserver and kube-controller-manager."""
        self.etcd_authority = self._pair("etcd-ca")
        """etcd trusts an authority of its own: a Kubernetes user is no etcd client."""
        self.etcd_server = self._pair("etcd")
        self.etcd_client = self._pair("etcd-client")
        self.service_account_key = folder / "service-account.key"
        self.service_account_public_key = folder / "service-account.pub"

    def ensure(self) -> None:
        """Makes all files unless they are there and good for months to come."""
        if self._is_good():
            return
        for file in self._folder.glob("*"):
            remove_tree(file) if file.is_dir() else file.unlink()
        authority = _Authority("tenantry-local")
        authority.write(self.authority)
        authority.issue(self.admin, "kubernetes-admin", organization="system:masters")
        authority.issue(self.controller_manager, "system:kube-controller-manager")
        authority.issue(self.node, "system:node:local", organization="system:nodes")
        authority.issue(self.server, "kube-apiserver", serving=True)
        etcd = _Authority("tenantry-local-etcd")
        etcd.write(self.etcd_authority)
        etcd.issue(self.etcd_server, "etcd", serving=True)
        etcd.issue(self.etcd_client, "kube-apiserver")
        key = ec.generate_private_key(ec.SECP256R1())
        write_private(self.service_account_key, _key_pem(key))
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        # Written last: the set is complete when this file is there.
        write_private(self.service_account_public_key, public.decode())

    def _pair(self, name: str) -> Pair:
        return Pair(self._folder / f"{name}.crt", self._folder / f"{name}.key")

    def _is_good(self) -> bool:
        if not (self.service_account_public_key.exists() and self.node.certificate.exists()):
            return False
        try:
            certificate = x509.load_pem_x509_certificate(self.authority.certificate.read_bytes())
        except (OSError, ValueError):
            return False
        return certificate.not_valid_after_utc - RENEW_BEFORE > datetime.datetime.now(datetime.UTC)


class _Authority:
    """A certificate authority with its key in memory."""

    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        usage = x509.KeyUsage(
            digital_signature=True,
            key_cert_sign=True,
            crl_sign=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )
        self._certificate = (
            _builder(self._name, self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )

    def write(self, pair: Pair) -> None:
        """Writes the authority's own certificate and key."""
        write_private(pair.key, _key_pem(self._key))
        write_private(pair.certificate, _certificate_pem(self._certificate))

    def issue(self, pair: Pair, name: str, *, organization: str | None = None, serving: bool = False) -> None:
        """Writes a certificate for a client, or for a server that is also its own client."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = [x509.NameAttribute(NameOID.COMMON_NAME, name)]
        if organization:
            subject.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = _builder(x509.Name(subject), self._name, key.public_key())
        if serving:
            usages.append(ExtendedKeyUsageOID.SERVER_AUTH)
            names: list[x509.GeneralName] = [x509.DNSName(name) for name in NAMES]
            names += [x509.IPAddress(ipaddress.ip_address(address)) for address in ADDRESSES]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        signed_by = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        certificate = (
            builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(signed_by, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        write_private(pair.key, _key_pem(key))
        write_private(pair.certificate, _certificate_pem(certificate))


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))  # clocks of virtual machines step back
        .not_valid_after(now + LIFETIME)
    )


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def _certificate_pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
