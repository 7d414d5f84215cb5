"""etcd, kube-apiserver and kube-controller-manager: the upstream programs, each its own process."""

from __future__ import annotations

import http.client
import ssl
from pathlib import Path

from tenantry_local.kubectl import kubeconfig
from tenantry_local.paths import Paths, write_private
from tenantry_local.pki import Pair, Pki
from tenantry_local.processes import Processes, Program, digest_of
from tenantry_local.state import State

PORTS = ["etcd", "etcd-peer", "kube-apiserver", "kube-controller-manager"]
NAMES = ("etcd", "kube-apiserver", "kube-controller-manager")
SERVICE_RANGE = "10.0.0.0/24"
ISSUER = "https://kubernetes.default.svc.cluster.local"
CONTROLLERS = (
    "clusterrole-aggregation-controller",
    "cronjob-controller",
    "deployment-controller",
    "disruption-controller",
    "endpointslice-controller",
    "garbage-collector-controller",
    "job-controller",
    "namespace-controller",
    "persistentvolume-binder-controller",
    "persistentvolume-protection-controller",
    "persistentvolumeclaim-protection-controller",
    "replicaset-controller",
    "resourcequota-controller",
    "root-ca-certificate-publisher-controller",
    "serviceaccount-controller",
    "serviceaccount-token-controller",
    "statefulset-controller",
    "ttl-after-finished-controller",
)
"""All that works with a node that only runs pods."""


class ControlPlane:
    """The control plane of one cluster."""

    def __init__(self, paths: Paths, state: State, processes: Processes) -> None:
        self._paths = paths
        self._state = state
        self._processes = processes
        self.pki = Pki(paths.pki)

    @property
    def url(self) -> str:
        """The address of kube-apiserver."""
        return f"https://127.0.0.1:{self._state.port('kube-apiserver')}"

    def prepare(self) -> None:
        """Makes certificates and the administrator's kubeconfig."""
        self.pki.ensure()
        self._paths.etcd.mkdir(mode=0o700, exist_ok=True)
        authority = self.pki.authority.certificate
        write_private(self._paths.kubeconfig, kubeconfig(self.url, authority, client=self.pki.admin))
        own = kubeconfig(self.url, authority, client=self.pki.controller_manager)
        write_private(self._paths.service_kubeconfig("kube-controller-manager"), own)

    def start_etcd(self, binary: Path) -> None:
        """Starts etcd and waits for it."""
        self._processes.start(self._etcd(binary))
        probe = self._probe("etcd", "/readyz", self.pki.etcd_authority, self.pki.etcd_client)
        self._processes.wait("etcd", probe, timeout=60)

    def start_apiserver(self, binary: Path) -> None:
        """Starts kube-apiserver, which needs etcd, and waits for it."""
        self._processes.start(self._apiserver(binary))
        probe = self._probe("kube-apiserver", "/readyz", self.pki.authority, self.pki.admin)
        self._processes.wait("kube-apiserver", probe, timeout=120)

    def start_controller_manager(self, binary: Path) -> None:
        """Starts kube-controller-manager, which needs kube-apiserver, and waits for it."""
        self._processes.start(self._controller_manager(binary))
        probe = self._probe("kube-controller-manager", "/healthz", self.pki.authority, self.pki.admin)
        self._processes.wait("kube-controller-manager", probe, timeout=60)

    def _etcd(self, binary: Path) -> Program:
        client = f"https://127.0.0.1:{self._state.port('etcd')}"
        peer = f"https://127.0.0.1:{self._state.port('etcd-peer')}"
        pki = self.pki
        flags = {
            "name": "local",
            "data-dir": self._paths.etcd,
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"local={peer}",
            "cert-file": pki.etcd_server.certificate,
            "key-file": pki.etcd_server.key,
            "trusted-ca-file": pki.etcd_authority.certificate,
            "client-cert-auth": "true",
            "peer-cert-file": pki.etcd_server.certificate,
            "peer-key-file": pki.etcd_server.key,
            "peer-trusted-ca-file": pki.etcd_authority.certificate,
            "peer-client-cert-auth": "true",
            # Resources can be applied again; a crash of the machine may cost the last ones.
            "unsafe-no-fsync": "true",
            "quota-backend-bytes": 8 * 2**30,
            "log-level": "warn",
        }
        return self._program("etcd", binary, flags, pki.etcd_server.certificate)

    def _apiserver(self, binary: Path) -> Program:
        pki = self.pki
        flags = {
            "etcd-servers": f"https://127.0.0.1:{self._state.port('etcd')}",
            "etcd-cafile": pki.etcd_authority.certificate,
            "etcd-certfile": pki.etcd_client.certificate,
            "etcd-keyfile": pki.etcd_client.key,
            "bind-address": "127.0.0.1",
            "advertise-address": "127.0.0.1",
            "secure-port": self._state.port("kube-apiserver"),
            # The address of a loopback interface is no endpoint; nobody looks for one here.
            "endpoint-reconciler-type": "none",
            "tls-cert-file": pki.server.certificate,
            "tls-private-key-file": pki.server.key,
            "client-ca-file": pki.authority.certificate,
            "authorization-mode": "RBAC",
            "service-account-issuer": ISSUER,
            "service-account-key-file": pki.service_account_public_key,
            "service-account-signing-key-file": pki.service_account_key,
            "service-cluster-ip-range": SERVICE_RANGE,
            "allow-privileged": "true",
            "profiling": "false",
        }
        return self._program("kube-apiserver", binary, flags, pki.service_account_public_key)

    def _controller_manager(self, binary: Path) -> Program:
        pki = self.pki
        flags = {
            "kubeconfig": self._paths.service_kubeconfig("kube-controller-manager"),
            "bind-address": "127.0.0.1",
            "secure-port": self._state.port("kube-controller-manager"),
            "tls-cert-file": pki.server.certificate,
            "tls-private-key-file": pki.server.key,
            "service-account-private-key-file": pki.service_account_key,
            "root-ca-file": pki.authority.certificate,
            "use-service-account-credentials": "true",
            "leader-elect": "false",
            "controllers": ",".join(CONTROLLERS),
            "kube-api-qps": 200,  # the default of 20 makes deleting thousands of objects a matter of minutes
            "kube-api-burst": 400,
            "profiling": "false",
        }
        own = self._paths.service_kubeconfig("kube-controller-manager")
        return self._program("kube-controller-manager", binary, flags, own)

    def _program(self, name: str, binary: Path, flags: dict[str, object], key: Path) -> Program:
        arguments = [f"--{flag}={value}" for flag, value in flags.items()]
        return Program(name, (str(binary), name, *arguments), depends=digest_of(key.read_bytes()))

    def _probe(self, server: str, path: str, authority: Pair, client: Pair) -> _Probe:
        context = ssl.create_default_context(cafile=str(authority.certificate))
        context.load_cert_chain(str(client.certificate), str(client.key))
        return _Probe(self._state.port(server), path, context)


class _Probe:
    """Asks a server on 127.0.0.1 whether it is ready; over TLS when there is a context."""

    def __init__(self, port: int, path: str, context: ssl.SSLContext | None) -> None:
        self._port, self._path, self._context = port, path, context

    def __call__(self) -> bool:
        connection = (
            http.client.HTTPSConnection("127.0.0.1", self._port, timeout=5, context=self._context)
            if self._context
            else http.client.HTTPConnection("127.0.0.1", self._port, timeout=5)
        )
        try:
            connection.request("GET", self._path)
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


def http_probe(port: int, path: str) -> _Probe:
    """Asks a plain HTTP server on 127.0.0.1 whether it is ready."""
    return _Probe(port, path, None)
