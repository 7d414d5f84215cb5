"""MariaDB's and MySQL's pod. Pure."""

from __future__ import annotations

from tenantry_operator.instances.manifests.design import (
    Design,
    Object,
    Plan,
    confined,
    mount,
    probes,
    secret_env,
)
from tenantry_operator.instances.manifests.flavours import Flavour, flavour

PORT = 3306
ADMIN = "root"
DATA = "/var/lib/mysql"
OPTIONS = "/etc/mysql/conf.d"
"""Where both images look for further options."""

SETTINGS = """\
[mysqld]
# Hosts are never looked up, and never shut out for connections that end early, as those of probes do.
skip_name_resolve = ON
host_cache_size = 0
max_connections = 200
local_infile = OFF
# Without it, MySQL's binary log forbids functions and triggers to all but root.
log_bin_trust_function_creators = ON
character_set_server = utf8mb4
"""


def design(plan: Plan) -> Design:
    """The server as the only container. Its administrator is the image's ``root``."""
    kind = flavour(plan.engine, plan.image)
    prefix = "MARIADB" if kind is Flavour.MARIADB else "MYSQL"
    listening: Object = {"tcpSocket": {"port": PORT}}
    server = {
        "name": "server",
        "image": plan.image,
        "env": [
            secret_env(f"{prefix}_ROOT_PASSWORD", plan.secret, "password"),
            {"name": f"{prefix}_ROOT_HOST", "value": "%"},
        ],
        "ports": [{"name": "mysql", "containerPort": PORT, "protocol": "TCP"}],
        # Until the first start is over it listens on no port.
        **probes(listening),
        "securityContext": confined(),
        "volumeMounts": [
            mount("data", DATA),
            mount("config", OPTIONS, read_only=True),
            mount("run", "/run/mysqld" if kind is Flavour.MARIADB else "/var/run/mysqld"),
            mount("tmp", "/tmp"),  # noqa: S108 - of the container
        ],
    }
    return Design(
        port=PORT, user=999, containers=(server,), config={"tenantry.cnf": SETTINGS}, scratch=("run", "tmp")
    )
