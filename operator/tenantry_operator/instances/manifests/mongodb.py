"""MongoDB's pod: mongod, or FerretDB with its PostgreSQL beside it. Pure."""

from __future__ import annotations

from tenantry_operator.instances.manifests import postgres
from tenantry_operator.instances.manifests.design import (
    CONFIG,
    Design,
    Object,
    Plan,
    confined,
    mount,
    probes,
    secret_env,
)
from tenantry_operator.instances.manifests.flavours import Flavour, flavour

PORT = 27017
DATABASE = "ferretdb"
"""Where FerretDB keeps its data in PostgreSQL."""

SETTINGS = """\
net:
  bindIpAll: true
security:
  authorization: enabled
"""


def design(plan: Plan) -> Design:
    """As the image says."""
    if flavour(plan.engine, plan.image) is Flavour.FERRETDB:
        return _ferretdb(plan)
    return _mongod(plan)


def _mongod(plan: Plan) -> Design:
    listening: Object = {"tcpSocket": {"port": PORT}}
    server = {
        "name": "server",
        "image": plan.image,
        "args": ["mongod", "--config", f"{CONFIG}/mongod.conf"],
        "env": [
            {"name": "MONGO_INITDB_ROOT_USERNAME", "value": postgres.ADMIN},
            secret_env("MONGO_INITDB_ROOT_PASSWORD", plan.secret, "password"),
        ],
        "ports": [{"name": "mongodb", "containerPort": PORT, "protocol": "TCP"}],
        # At the first start it listens on the pod's own loopback address only, where no probe comes from.
        **probes(listening),
        "securityContext": confined(),
        "volumeMounts": [
            mount("data", "/data/db"),
            mount("configdb", "/data/configdb"),
            mount("home", "/home/mongodb"),
            mount("config", CONFIG, read_only=True),
            mount("tmp", "/tmp"),  # noqa: S108 - of the container
        ],
    }
    return Design(
        port=PORT,
        user=999,
        containers=(server,),
        config={"mongod.conf": SETTINGS},
        scratch=("tmp", "configdb", "home"),
    )


def _ferretdb(plan: Plan) -> Design:
    """Clients' logins are passed on to PostgreSQL, which is the one that lets them in."""
    listening: Object = {"tcpSocket": {"port": PORT}}
    server = {
        "name": "server",
        "image": plan.image,
        "env": [
            {"name": "FERRETDB_HANDLER", "value": "postgresql"},
            {"name": "FERRETDB_LISTEN_ADDR", "value": f":{PORT}"},
            # Left out, FerretDB keeps sessions that nobody uses for half an hour.
            {
                "name": "FERRETDB_POSTGRESQL_URL",
                "value": f"postgres://127.0.0.1:{postgres.PORT}/{DATABASE}?pool_max_conn_idle_time=1m",
            },
            {"name": "FERRETDB_TELEMETRY", "value": "disable"},
            {"name": "FERRETDB_STATE_DIR", "value": "/state"},
            {"name": "FERRETDB_DEBUG_ADDR", "value": "-"},
        ],
        "ports": [{"name": "mongodb", "containerPort": PORT, "protocol": "TCP"}],
        **probes(listening),
        "securityContext": confined(),
        "volumeMounts": [mount("state", "/state")],
    }
    backend = postgres.container(plan, plan.backend_image, "postgresql", DATABASE)
    return Design(
        port=PORT,
        user=postgres.user_of(plan.backend_image),
        containers=(server, backend),
        config={"postgresql.conf": postgres.SETTINGS},
        scratch=("run", "tmp", "state"),
        other_ports={"postgresql": postgres.PORT},
    )
