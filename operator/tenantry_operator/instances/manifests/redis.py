"""Redis' and Valkey's pod. Pure.

Accounts are in a file on the volume, since the operator adds to them. A new server starts with the operator's own,
and without the account ``default``, which asks for no password.
"""

from __future__ import annotations

import hashlib

from tenantry_operator.instances.manifests.design import (
    CONFIG,
    SEEDS,
    Design,
    Object,
    Plan,
    confined,
    mount,
    probes,
    secret_env,
)
from tenantry_operator.instances.manifests.flavours import Flavour, flavour

PORT = 6379
ADMIN = "tenantry_admin"
DATA = "/data"
ACCOUNTS = "users.acl"

SETTINGS = f"""\
port {PORT}
# The account "default" is off; without this, connections from elsewhere were refused for its lack of a password.
protected-mode no
dir {DATA}
aclfile {DATA}/{ACCOUNTS}
appendonly yes
appendfsync everysec
"""


def accounts(password: str) -> str:
    """The accounts that a new server starts with: the operator's, by the hash of its password.

    Nobody can log in as ``default``, but it keeps its rights: when the server starts, transactions are replayed
    from the append-only file in its name, and what it may not do is lost.
    """
    hashed = hashlib.sha256(password.encode()).hexdigest()
    return f"user default off resetpass ~* &* +@all\nuser {ADMIN} on #{hashed} ~* &* +@all\n"


def design(plan: Plan) -> Design:
    """The server, after a container that puts the accounts in place at the first start."""
    kind = flavour(plan.engine, plan.image)
    program = "valkey-server" if kind is Flavour.VALKEY else "redis-server"
    answers: Object = {
        "exec": {"command": ["sh", "-c", f"redis-cli -h 127.0.0.1 -p {PORT} --user {ADMIN} ping | grep -q PONG"]}
    }
    listening: Object = {"tcpSocket": {"port": PORT}}
    # Moved in one step: a crash leaves no half file, which would let nobody in.
    target, source = f"{DATA}/{ACCOUNTS}", f"{SEEDS}/{ACCOUNTS}"
    script = f"test -s {target} || {{ cp {source} {target}.new && mv {target}.new {target}; }}"
    seed = {
        "name": "accounts",
        "image": plan.image,
        "command": ["sh", "-c", script],
        "securityContext": confined(),
        "volumeMounts": [mount("data", DATA), mount("seeds", SEEDS, read_only=True)],
    }
    server = {
        "name": "server",
        "image": plan.image,
        "args": [program, f"{CONFIG}/redis.conf"],
        # What the probes log in with.
        "env": [
            secret_env("REDISCLI_AUTH", plan.secret, "password"),
            secret_env("VALKEYCLI_AUTH", plan.secret, "password"),
        ],
        "ports": [{"name": "redis", "containerPort": PORT, "protocol": "TCP"}],
        **probes(answers, liveness=listening),
        "securityContext": confined(),
        "volumeMounts": [mount("data", DATA), mount("config", CONFIG, read_only=True)],
    }
    return Design(
        port=PORT,
        user=999,
        containers=(server,),
        init_containers=(seed,),
        config={"redis.conf": SETTINGS},
        seeds=(ACCOUNTS,),
        grace=60,
    )
