"""Rules of the repository that no other tool holds."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def tracked(*patterns: str) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--", *patterns], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()
    return [ROOT / name for name in listed if (ROOT / name).is_file()]


def test_the_operator_folder_does_not_shadow_the_standard_library() -> None:
    assert not (ROOT / "operator" / "__init__.py").exists()
    assert not list((ROOT / "operator").rglob("test_*.py"))
    code = "import operator; print(operator.itemgetter.__module__)"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "operator"


def test_lock_files_have_hashes_and_no_hosts() -> None:
    for path in ROOT.glob("requirements*.lock"):
        text = path.read_text()
        assert "--hash=sha256:" in text
        assert not re.search(r"https?://|--index-url|--find-links", text)


def test_no_file_names_a_package_registry() -> None:
    hosts = re.compile(r"pypi\.o[r]g|pythonh[o]sted|proxy\.g[o]lang|sum\.g[o]lang|registry\.npmj[s]|deb\.debi[a]n")
    found = [path for path in tracked() if hosts.search(path.read_text(errors="replace"))]
    assert found == []


def test_modules_are_read_on_a_few_screens() -> None:
    long = {str(p.relative_to(ROOT)): n for p in tracked("*.py") if (n := len(p.read_text().splitlines())) > 400}
    assert {name for name in long if not name.startswith("tests/")} == set()


def test_nothing_is_left_unfinished_by_its_own_words() -> None:
    words = re.compile(r"\b(TO[D]O|FIX[M]E|XX[X])\b|NotImplemented[E]rror")
    found = [path for path in tracked("*.py", "*.go", "*.sh") if words.search(path.read_text(errors="replace"))]
    assert found == []
