"""The scripts that stand for an image's entrypoint and programs. Pure text.

Paths come quoted for the shell. A server's script adds what makes it listen on its pod's address only, whoever
calls it; the last of several equal flags counts for each of these programs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

SQL = "TENANTRY_NODE_SQL"
"""The variable with the statements that a new MariaDB runs first."""
TABLES = {
    family: (
        f"{family}_system_tables.sql",
        f"{family}_performance_tables.sql",
        f"{family}_system_tables_data.sql",
        "maria_add_gis_sp_bootstrap.sql",
        f"{family}_sys_schema.sql",
    )
    for family in ("mysql", "mariadb")
}
"""What a new MariaDB is made of, in the folder ``share``: by what an older one, and a newer one, calls it."""
_PACKAGES = "export PYTHONPATH=${{PYTHONPATH:+$PYTHONPATH:}}{}\n"
Scripts = dict[str, str]
Quoted = Mapping[str, str]


def plain(programs: Quoted) -> Scripts:
    """Every program under its own name."""
    return {name: _exec(path) for name, path in programs.items()}


def python(interpreter: str, packages: str) -> Scripts:
    """An interpreter, with packages of another one of the same version."""
    text = f'#!/bin/sh\n{_PACKAGES.format(packages) if packages else ""}exec {interpreter} "$@"\n'
    return {"python": text, "python3": text}


def postgres(programs: Quoted, address: str, sockets: str, *, fsync: str) -> Scripts:
    """PostgreSQL: a data folder is made complete beside its place, then put there."""
    durability = "" if fsync == "on" else f" -c fsync={fsync}"
    server = f"""\
#!/bin/sh
case "${{1-}}" in --*) exec {programs["postgres"]} "$@" ;; esac
exec {programs["postgres"]} "$@" -c listen_addresses={address} -c unix_socket_directories={sockets}{durability}
"""
    entrypoint = """\
#!/bin/sh
set -eu
case "${1-}" in -*|"") set -- postgres "$@" ;; esac
[ "$1" = postgres ] || exec "$@"
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  if [ -n "${POSTGRES_PASSWORD_FILE-}" ]; then POSTGRES_PASSWORD=$(cat "$POSTGRES_PASSWORD_FILE"); fi
  if [ -n "${POSTGRES_USER_FILE-}" ]; then POSTGRES_USER=$(cat "$POSTGRES_USER_FILE"); fi
  if [ -n "${POSTGRES_DB_FILE-}" ]; then POSTGRES_DB=$(cat "$POSTGRES_DB_FILE"); fi
  method=${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}
  if [ -z "${POSTGRES_PASSWORD-}" ] && [ "$method" != trust ]; then
    echo "Error: Database is uninitialized and superuser password is not specified: set POSTGRES_PASSWORD." >&2
    exit 1
  fi
  if [ -d "$PGDATA" ] && [ -n "$(ls -A "$PGDATA")" ]; then
    echo "Error: $PGDATA is not empty, and holds no database." >&2
    exit 1
  fi
  fresh="$PGDATA.init"
  rm -rf "$fresh" "$fresh.password"
  mkdir -p "$(dirname "$PGDATA")"
  printf '%s\\n' "${POSTGRES_PASSWORD:-$(cat /proc/sys/kernel/random/uuid)}" > "$fresh.password"
  eval 'initdb --pgdata="$fresh" --username="${POSTGRES_USER:-postgres}" --pwfile="$fresh.password"' \\
    '--auth-local=trust --auth-host=scram-sha-256 --encoding=UTF8 --locale-provider=builtin --locale=C.UTF-8' \\
    '--no-sync --no-instructions' "${POSTGRES_INITDB_ARGS-}"
  rm -f "$fresh.password"
  if [ "$method" != scram-sha-256 ]; then
    # Everybody on this machine connects from 127.0.0.1: its lines are what counts.
    sed -i "s/^\\(host .*\\)scram-sha-256$/\\1$method/" "$fresh/pg_hba.conf"
  fi
  printf '\\nhost all all all %s\\n' "$method" >> "$fresh/pg_hba.conf"
  database=${POSTGRES_DB:-${POSTGRES_USER:-postgres}}
  if [ "$database" != postgres ]; then
    printf 'CREATE DATABASE "%s"\\n' "$(printf %s "$database" | sed 's/"/""/g')" |
      postgres --single -D "$fresh" -c log_checkpoints=off postgres > /dev/null
  fi
  mv -T "$fresh" "$PGDATA"  # in one step, also in place of an empty folder
fi
if [ -f "$PGDATA/postmaster.pid" ]; then
  # A number that now belongs to another process would keep the server from starting.
  pid=$(head -n 1 "$PGDATA/postmaster.pid")
  tr '\\0' ' ' < "/proc/$pid/cmdline" 2> /dev/null | grep -qF -- "$PGDATA" || rm -f "$PGDATA/postmaster.pid"
fi
shift
unset POSTGRES_PASSWORD
exec postgres "$@"
"""
    own = {"postgres": server, "docker-entrypoint.sh": entrypoint}
    return plain(programs) | own


def mariadb(
    programs: Quoted, share: str, address: str, sockets: str, *, tables: Sequence[str], mysql: bool
) -> Scripts:
    """MariaDB, also for MySQL's images. Its data folder is made as PostgreSQL's.

    :param tables: one of :data:`TABLES`, whose files are in the folder ``share``.
    """
    listen = f"--bind-address={address} --socket={sockets}/mysqld.sock --pid-file={sockets}/mysqld.pid"
    server = f"""\
#!/bin/sh
case "${{1-}}" in
  # An extra file, too, is the only one: this machine's own options are not the image's.
  --defaults-file=*|--defaults-extra-file=*) first=--defaults-file=${{1#*=}}; shift ;;
  --no-defaults) shift; first=--no-defaults ;;
  *) first=--no-defaults
     if [ -n "${{TENANTRY_NODE_DEFAULTS-}}" ]; then first=--defaults-file=$TENANTRY_NODE_DEFAULTS; fi ;;
esac
data=${{TENANTRY_NODE_DATA:-/nonexistent}}
unset {SQL} TENANTRY_NODE_DEFAULTS TENANTRY_NODE_DATA
exec {programs["mariadbd"]} "$first" --datadir="$data" --skip-name-resolve "$@" {listen}
"""
    said = (
        "echo 'This node runs MariaDB in place of MySQL; options it does not know are ignored.' >&2\n"
        if mysql
        else ""
    )
    entrypoint = f"""\
#!/bin/sh
set -eu
case "${{1-}}" in -*|"") set -- mariadbd "$@" ;; esac
case "$1" in mariadbd|mysqld) shift ;; *) exec "$@" ;; esac
{said}data=$TENANTRY_NODE_DATA
if [ ! -d "$data/mysql" ]; then
  if [ -z "${{{SQL}-}}" ]; then
    echo "Error: Database is uninitialized and password option is not specified: set MARIADB_ROOT_PASSWORD" \\
      "(MYSQL_ROOT_PASSWORD)." >&2
    exit 1
  fi
  if [ -d "$data" ] && [ -n "$(ls -A "$data")" ]; then
    echo "Error: $data is not empty, and holds no database." >&2
    exit 1
  fi
  fresh="$data.init"
  rm -rf "$fresh"
  mkdir -p "$fresh"
  # What mariadb-install-db does, which needs a program of another package to read options it is not given.
  {{
    printf '%s\\n' 'CREATE DATABASE mysql;' 'USE mysql;' 'SET @auth_root_socket=NULL;'
    cd {share}
    cat {" ".join(tables)}
    printf '%s\\n' "${SQL}"
  }} | {programs["mariadbd"]} --no-defaults --bootstrap --silent-startup --datadir="$fresh" --log-warnings=0 \\
    --lc-messages-dir={share} --enforce-storage-engine= --skip-log-bin \\
    --max_allowed_packet=8M --net_buffer_length=16K
  mv -T "$fresh" "$data"  # in one step, also in place of an empty folder
fi
exec mariadbd "$@"
"""
    made = {name: _exec(f"{path} --socket={sockets}/mysqld.sock") for name, path in programs.items()}
    old = {"mysql": "mariadb", "mysqladmin": "mariadb-admin", "mysqldump": "mariadb-dump"}
    made |= {name: made[new] for name, new in old.items() if new in made}
    return made | {"mariadbd": server, "mysqld": server, "docker-entrypoint.sh": entrypoint}


def redis(programs: Quoted, address: str) -> Scripts:
    """Redis, and Valkey, which takes the same flags."""
    server = f"""\
#!/bin/sh
case "${{1-}}" in --version|-v|--help|-h) exec {programs["server"]} "$@" ;; esac
exec {programs["server"]} "$@" --bind {address}
"""
    entrypoint = """\
#!/bin/sh
case "${1-}" in -*|*.conf|"") set -- redis-server "$@" ;; esac
exec "$@"
"""
    made = {"redis-server": server, "valkey-server": server, "docker-entrypoint.sh": entrypoint}
    if "client" in programs:
        client = _exec(f"{programs['client']} -h {address}")
        made |= {"redis-cli": client, "valkey-cli": client}
    return made


def ferretdb(programs: Quoted) -> Scripts:
    """FerretDB, whose addresses are in its environment and flags."""
    entrypoint = """\
#!/bin/sh
case "${1-}" in -*|"") set -- ferretdb "$@" ;; esac
exec "$@"
"""
    return plain(programs) | {"docker-entrypoint.sh": entrypoint}


def _exec(command: str) -> str:
    return f'#!/bin/sh\nexec {command} "$@"\n'
