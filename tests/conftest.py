"""What tests are run against: real servers, started once for a test run and only when a test asks.

``cluster`` is the one-machine cluster with the operator; ``control_plane`` has everything but operator and
facade. Each lives in a folder of its own below ``.local/test``, with ports of its own, so that tests neither
need nor disturb the cluster of ``make up``. A missing prerequisite is a failure that says what to do, never
a skip: a test that did not run has shown nothing.

With ``TENANTRY_E2E=kubeconfig`` the tests marked ``kind``, and only they, run against the cluster that
``KUBECONFIG`` names (see :class:`ExternalCluster`).
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import hypothesis
import pytest

from tenantry_local.build import BuildError
from tenantry_local.cluster import Cluster
from tenantry_local.errors import LocalError
from tenantry_local.kubectl import Kubectl
from tenantry_local.paths import remove_tree

# A busy machine takes its time for an example.
hypothesis.settings.register_profile("tenantry", deadline=None)
hypothesis.settings.load_profile("tenantry")

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / ".local" / "test"
STARTED = pytest.StashKey[float]()
EXTERNAL = os.environ.get("TENANTRY_E2E", "") == "kubeconfig"


class ExternalCluster:
    """A cluster somebody else runs, with the chart installed: the part of ``Cluster`` that works there.

    ``KUBECONFIG`` names it. ``TENANTRY_E2E_DATABASE`` (``host:port``) is where this machine reaches the
    shared PostgreSQL, in place of the address in the Secrets, which is for pods. ``DATABASE_ADMIN_URL`` is
    the superuser's URL.
    """

    def __init__(self) -> None:
        config = os.environ.get("KUBECONFIG")
        if not config:
            raise LocalError("TENANTRY_E2E=kubeconfig needs KUBECONFIG: the kubeconfig of the cluster to test")
        self.kubeconfig = Path(config)
        self.kubectl = Kubectl(self.kubeconfig)

    def tenant_uri(self, namespace: str, secret: str) -> str:
        """The URL with which a tenant's program logs in, from its Secret."""
        return self._reachable(self.kubectl.secret(namespace, secret)["uri"])

    def admin_dsn(self, database: str = "postgres") -> str:
        """The URL of PostgreSQL's superuser."""
        url = os.environ.get("DATABASE_ADMIN_URL")
        if not url:
            raise LocalError("DATABASE_ADMIN_URL is not set: the superuser's URL of the shared PostgreSQL")
        return urlunsplit(urlsplit(url)._replace(path=f"/{database}"))

    @staticmethod
    def _reachable(uri: str) -> str:
        address = os.environ.get("TENANTRY_E2E_DATABASE")
        if not address:
            return uri
        parts = urlsplit(uri)
        login = parts.netloc.rpartition("@")[0]
        return urlunsplit(parts._replace(netloc=f"{login}@{address}"))


def pytest_configure(config: pytest.Config) -> None:
    """Notes when the tests began."""
    config.stash[STARTED] = time.time()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Against somebody else's cluster, only the tests that are meant for it."""
    if EXTERNAL:
        others = [item for item in items if item.get_closest_marker("kind") is None]
        items[:] = [item for item in items if item.get_closest_marker("kind") is not None]
        config.hook.pytest_deselected(items=others)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says where the logs of failed tests are."""
    # Several processes may have run the tests: what they kept is told by when they kept it.
    started = terminalreporter.config.stash[STARTED]
    for folder in sorted(FOLDER.glob("*/log")):
        if folder.stat().st_ctime < started:
            continue
        terminalreporter.write_line(f"logs of the servers that failing tests used: {folder}")


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster | ExternalCluster]:
    """A cluster with operator and facade; the one of ``KUBECONFIG`` with ``TENANTRY_E2E=kubeconfig``."""
    if EXTERNAL:
        yield ExternalCluster()
        return
    with running("cluster", request) as started:
        yield started


@pytest.fixture(scope="session")
def control_plane(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A cluster without operator and facade: the API server with the chart, and PostgreSQL."""
    with running("control-plane", request, operator=False, api=False) as started:
        yield started


@pytest.fixture(scope="session")
def database_server(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A cluster of which only PostgreSQL runs, for tests of the engine alone."""
    with running("database", request, only_postgres=True) as started:
        yield started


@contextlib.contextmanager
def running(
    name: str,
    request: pytest.FixtureRequest,
    *,
    operator: bool = True,
    api: bool = True,
    only_postgres: bool = False,
) -> Iterator[Cluster]:
    """A cluster of this test run. It is removed at the end; after a failure its logs are kept."""
    remove_leftovers()
    started = Cluster(FOLDER / f"{name}-{os.getpid()}")
    failed_before = request.session.testsfailed
    try:
        try:
            if only_postgres:
                started.start_postgres()
            else:
                started.up(operator=operator, api=api)
        except (LocalError, BuildError) as error:
            pytest.fail(f"the test cluster does not start: {error}", pytrace=False)
        yield started
    finally:
        started.down()
        if request.session.testsfailed > failed_before:
            keep_logs(name, started)
        started.clean()
        remove_tree(started.paths.home)


def keep_logs(name: str, stopped: Cluster) -> None:
    """Puts the logs of a cluster where the next test run leaves them, until the same one fails again."""
    kept = FOLDER / name / "log"
    remove_tree(kept)
    kept.parent.mkdir(parents=True, exist_ok=True)
    stopped.paths.logs.rename(kept)


def remove_leftovers() -> None:
    """Removes the clusters of earlier test runs that were killed."""
    for folder in FOLDER.glob("*-*") if FOLDER.exists() else ():
        owner = folder.name.rpartition("-")[2]
        if owner.isdigit() and int(owner) != os.getpid() and not _is_test_run(int(owner)):
            Cluster(folder).clean()
            remove_tree(folder)


def _is_test_run(pid: int) -> bool:
    with contextlib.suppress(OSError):
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        # The second is how pytest-xdist starts the processes that run tests.
        return b"pytest" in command or b"sys.stdin.readline" in command
    with contextlib.suppress(OSError):
        os.kill(pid, 0)
        return not Path("/proc/self").exists()
    return False


@pytest.fixture(autouse=True)
def _no_foreign_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings of the caller's shell reach no test, but for those that choose what is tested against."""
    kept = {
        "TENANTRY_E2E",
        "TENANTRY_E2E_DATABASE",
        "TENANTRY_CACHE",
        "TENANTRY_POSTGRES_USER",
        "TENANTRY_FSYNC",
    }
    for name in os.environ:
        if name.startswith("TENANTRY_") and name not in kept:
            monkeypatch.delenv(name)
