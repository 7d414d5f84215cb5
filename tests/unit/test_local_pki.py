"""The certificates of the one-machine cluster."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from tenantry_local import pki as module
from tenantry_local.pki import Pair, Pki


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    pki = Pki(tmp_path)
    pki.ensure()
    return pki


def read(pair: Pair) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pair.certificate.read_bytes())


def subject(pair: Pair, oid: x509.ObjectIdentifier) -> list[str]:
    return [str(attribute.value) for attribute in read(pair).subject.get_attributes_for_oid(oid)]


def test_the_administrator_is_in_the_group_that_may_do_everything(pki: Pki) -> None:
    assert subject(pki.admin, NameOID.ORGANIZATION_NAME) == ["system:masters"]


def test_nobody_else_is(pki: Pki) -> None:
    for pair in (pki.controller_manager, pki.server, pki.etcd_server, pki.etcd_client):
        assert subject(pair, NameOID.ORGANIZATION_NAME) == []


def test_the_controller_manager_is_the_user_rbac_knows(pki: Pki) -> None:
    assert subject(pki.controller_manager, NameOID.COMMON_NAME) == ["system:kube-controller-manager"]


def test_users_are_signed_by_their_authority_and_not_by_etcds(pki: Pki) -> None:
    for pair in (pki.admin, pki.controller_manager, pki.server):
        read(pair).verify_directly_issued_by(read(pki.authority))
        with pytest.raises(ValueError, match="Issuer"):
            read(pair).verify_directly_issued_by(read(pki.etcd_authority))
    read(pki.etcd_client).verify_directly_issued_by(read(pki.etcd_authority))


def test_the_server_is_known_by_address_and_name(pki: Pki) -> None:
    names = read(pki.server).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "127.0.0.1" in {str(address) for address in names.get_values_for_type(x509.IPAddress)}
    assert "localhost" in names.get_values_for_type(x509.DNSName)


def test_keys_are_private(pki: Pki, tmp_path: Path) -> None:
    assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o600}


def test_files_are_made_once(pki: Pki, tmp_path: Path) -> None:
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    pki.ensure()
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_files_that_expire_soon_or_are_incomplete_are_made_anew(pki: Pki, monkeypatch) -> None:
    first = pki.authority.certificate.read_bytes()
    pki.service_account_public_key.unlink()
    pki.ensure()
    second = pki.authority.certificate.read_bytes()
    assert first != second
    monkeypatch.setattr(module, "RENEW_BEFORE", module.LIFETIME + datetime.timedelta(days=1))
    pki.ensure()
    assert pki.authority.certificate.read_bytes() != second
