"""The reconcile of a Plan: whether it can be used, and who is on it."""

from __future__ import annotations

from tenantry_crds.plan import PlanSpec
from tenantry_crds.tenant import TenantSpec
from tenantry_operator import conditions
from tenantry_operator.cache import Key
from tenantry_operator.context import PLANS, Context
from tenantry_operator.errors import Stalled
from tenantry_operator.tenants import quotas


class PlanReconciler:
    """Reports on Plans."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def reconcile(self, key: Key) -> float | None:
        """One reconcile."""
        context = self._context
        obj = context.plans.get(key)
        if obj is None or "deletionTimestamp" in obj["metadata"]:
            return None
        spec = PlanSpec.model_validate(obj["spec"])
        code = spec.code or key[1]
        fields = {"tenants": context.tenants.count("plan", code)}
        try:
            self._check(key, code, spec)
        except Stalled as error:
            found = conditions.failed(error)
        else:
            found = conditions.ready("Ready")
        await context.write_conditions(PLANS, context.plans, obj, found, fields)
        return None

    def _check(self, key: Key, code: str, spec: PlanSpec) -> None:
        others = [name for _, name in self._context.plans.find("code", code) if name != key[1]]
        if others:
            raise Stalled(
                "CodeTaken",
                f"the code {code} is also that of Plan {', '.join(sorted(others))}: change one of them",
            )
        if spec.number is not None:
            for other in self._context.plans:
                if other["metadata"]["name"] != key[1] and other["spec"].get("number") == spec.number:
                    raise Stalled(
                        "NumberTaken",
                        f"the number {spec.number} is also that of Plan {other['metadata']['name']}: change one",
                    )
        try:
            quotas.merge(spec, TenantSpec())
        except ValueError as error:
            raise Stalled("LimitInvalid", f"a limit cannot be read: {error}") from error
