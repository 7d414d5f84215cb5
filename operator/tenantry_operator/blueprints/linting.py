"""What linting finds in versions, remembered: a version never changes, and linting takes its time."""

from __future__ import annotations

from typing import Any

from tenantry_crds.blueprint_version import MAX_FINDINGS
from tenantry_crds.common import ACKNOWLEDGE_ANNOTATION
from tenantry_operator.blueprints.chains import Version
from tenantry_operator.blueprints.findings import Finding
from tenantry_operator.blueprints.lint import lint, refused
from tenantry_operator.errors import Stalled

Object = dict[str, Any]

_NAMED = 5


class Linter:
    """Lints versions, each text once."""

    def __init__(self) -> None:
        self._found: dict[tuple[tuple[str, str, bool], ...], tuple[Finding, ...]] = {}

    async def findings(self, version: Version) -> tuple[Finding, ...]:
        """What is found in a version's own migrations, what destroys data first.

        :raises Retryable: LintFailed.
        """
        key = tuple((m.name, m.checksum, m.transactional) for m in version.migrations)
        if key not in self._found:
            self._found[key] = await lint(version.migrations)
        return self._found[key]

    async def check(self, obj: Object, version: Version) -> None:
        """Sees to it that nothing is in a version that destroys data or blocks, but what is acknowledged.

        :param obj: the BlueprintVersion.
        :raises Stalled: LintRefused, with the rules and where they are broken.
        """
        found = refused(await self.findings(version), acknowledged(obj))
        if not found:
            return
        named = "; ".join(f"{f.rule} in migration {f.migration}{_at(f)}: {f.message}" for f in found[:_NAMED])
        more = f"; and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
        rules = ",".join(dict.fromkeys(finding.rule for finding in found))
        raise Stalled(
            "LintRefused",
            f"BlueprintVersion {version.name}: {named}{more}. Write it otherwise in a new version, or accept it: "
            f"give the BlueprintVersion the annotation {ACKNOWLEDGE_ANNOTATION}={rules}",
        )


def acknowledged(obj: Object) -> frozenset[str]:
    """The rules that a BlueprintVersion may break."""
    text = (obj["metadata"].get("annotations") or {}).get(ACKNOWLEDGE_ANNOTATION) or ""
    return frozenset(word.strip() for word in text.split(",") if word.strip())


def _at(finding: Finding) -> str:
    return f", line {finding.line}" if finding.line is not None else ""


def render(findings: tuple[Finding, ...]) -> Object:
    """The fields of a BlueprintVersion's status."""
    listed = []
    for finding in findings[:MAX_FINDINGS]:
        entry: Object = {
            "migration": finding.migration,
            "rule": finding.rule,
            "kind": str(finding.kind),
            "message": finding.message[:512],
        }
        if finding.line is not None:
            entry["line"] = finding.line
        listed.append(entry)
    return {"findings": listed, "findingCount": len(findings)}
