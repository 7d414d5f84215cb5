"""Writes what is generated from the models: ``python -m tenantry_crds.generate [--check]``.

``crds/<plural>.yaml``, the same as templates of the chart, and ``docs/reference/``. With ``--check`` nothing
is written; the exit status is 1 when a file is not what it should be, and 2 outside a checkout.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tenantry_crds.kind import Kind
from tenantry_crds.kinds import KINDS
from tenantry_crds.reference import GENERATED, render_index, render_reference
from tenantry_crds.schema import render_crd

ROOT = Path(__file__).resolve().parents[2]
_NOTE = f"# {GENERATED}\n"
_KEEP = """\
  {{- if .Values.crds.keep }}
  annotations:
    helm.sh/resource-policy: keep
  {{- end }}
"""


def _dump(document: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(document), sort_keys=False, width=110, allow_unicode=True)


def render_manifest(kind: Kind) -> str:
    """The CRD of a kind, as YAML."""
    return _NOTE + _dump(render_crd(kind))


def render_template(kind: Kind) -> str:
    """The CRD of a kind as a template of the chart: installed with ``crds.install``, and left in the cluster
    by an uninstall with ``crds.keep``.

    :raises ValueError: when the CRD holds what Helm would take for an action.
    """
    crd = render_crd(kind)
    head = _dump({key: crd[key] for key in ("apiVersion", "kind", "metadata")})
    spec = _dump({"spec": crd["spec"]})
    if "{{" in head + spec:
        raise ValueError(f"{kind.crd_name}: a description or rule contains '{{{{', which Helm would interpret")
    return f"{{{{- if .Values.crds.install }}}}\n{_NOTE}{head}{_KEEP}{spec}{{{{- end }}}}\n"


def render_all() -> dict[str, str]:
    """All generated files: contents by path in the checkout."""
    files = {"docs/reference/README.md": render_index(KINDS)}
    for kind in KINDS:
        files[f"crds/{kind.plural}.yaml"] = render_manifest(kind)
        files[f"charts/tenantry/templates/crds/{kind.plural}.yaml"] = render_template(kind)
        files[f"docs/reference/{kind.singular}.md"] = render_reference(kind)
    return files


def find_stale(root: Path, files: Mapping[str, str]) -> list[str]:
    """The files below ``root`` that are missing, differ, or were generated for a kind that is gone."""
    stale = [
        path
        for path, content in files.items()
        if not (root / path).is_file() or (root / path).read_text(encoding="utf-8") != content
    ]
    for folder in {Path(path).parent for path in files}:
        for file in (root / folder).glob("*.*"):
            path = file.relative_to(root).as_posix()
            if path not in files and GENERATED in file.read_text(encoding="utf-8")[:200]:
                stale.append(path)
    return sorted(stale)


def main(arguments: list[str] | None = None) -> int:
    """Writes or checks all generated files."""
    parser = argparse.ArgumentParser(prog="python -m tenantry_crds.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, fail when a file is stale")
    check = parser.parse_args(arguments).check
    if not (ROOT / "pyproject.toml").is_file():
        sys.stderr.write("run it from a checkout: the files to write are beside crds/tenantry_crds\n")
        return 2
    files = render_all()
    stale = find_stale(ROOT, files)
    if check:
        for path in stale:
            sys.stderr.write(f"{path} is stale; run `python -m tenantry_crds.generate`\n")
        return 1 if stale else 0
    for path in stale:
        file = ROOT / path
        if path not in files:
            file.unlink()
            continue
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(files[path], encoding="utf-8")
    sys.stdout.write(f"{len(stale)} of {len(files)} generated files changed\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
