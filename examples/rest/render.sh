#!/usr/bin/env bash
# A walk through render's contract. Needs the variables of .local/dev.env:
#   set -a; . .local/dev.env; set +a; bash examples/rest/render.sh
set -euo pipefail

base="$TENANTRY_API_URL/api"
slug="render-walk-$$"

call() {
  local method="$1" path="$2"
  shift 2
  echo "> $method $path ${*:2}" >&2
  curl --silent --show-error --fail-with-body --request "$method" "$base$path" \
    --header "Authorization: Bearer $TENANTRY_ADMIN_TOKEN" --header "Content-Type: application/json" "$@"
  echo
}

call GET /health/
made="$(call POST /tenants/ --data "{\"name\": \"A walk $$\", \"slug\": \"$slug\"}")"
echo "$made"
id="$(sed -E 's/.*"id":([0-9]+).*/\1/' <<<"$made")"
trap 'call DELETE "/tenants/$id/"' EXIT

status=""
for _ in $(seq 60); do
  status="$(call GET "/tenants/$id/status/")"
  [[ "$status" == *'"PROVISIONING"'* ]] || break
  sleep 0.5
done
echo "$status"

call PUT "/tenants/$id/" --data '{"custom_plugin_repo": "https://github.com/acme/custom-plugins"}'
call GET "/tenants/$id/"
call GET "/tenants/?page_size=3"
