"""What institutions do when the cluster has moved on between a look at the cache and the change."""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from tenantry_api.auth.principal import Principal
from tenantry_api.dialects.institutions.access import MANAGER, Access
from tenantry_api.dialects.institutions.schemas import TenantChange
from tenantry_api.dialects.institutions.service import Service
from tenantry_api.problems import Forbidden
from tenantry_api.tenants import Tenant

Object = dict[str, Any]


def tenant(name: str, parent: str = "") -> Tenant:
    return Tenant({"metadata": {"namespace": "default", "name": name}, "spec": {"parent": parent}})


class Tenants:
    """One Tenant, as the API server has it."""

    def __init__(self, live: Tenant) -> None:
        self.live = live

    def is_within(self, below: Tenant, above: Tenant) -> bool:
        return above.key[1] in (below.key[1], below.spec["parent"])

    async def change(self, key: tuple[str, str], edit: Callable[[Tenant, Object], None]) -> Tenant:
        edit(self.live, copy.deepcopy(self.live.obj))
        raise AssertionError("it is changed")


async def test_who_manages_a_tenant_no_more_does_not_change_it() -> None:
    tenants: Any = Tenants(tenant("faculty", "elsewhere"))
    access = Access(Principal("jane", frozenset({MANAGER})), tenants, tenant("university"))
    known = tenant("faculty", "university")
    assert access.covers(known)
    service = Service(SimpleNamespace(tenants=tenants))  # type: ignore[arg-type]  # the part of it that is used
    with pytest.raises(Forbidden):
        await service.change(access, known, TenantChange(name="Mine now"))
