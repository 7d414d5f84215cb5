#!/usr/bin/env bash
# A walk through neostack's contract. Needs the variables of .local/dev.env:
#   set -a; . .local/dev.env; set +a; bash examples/rest/neostack.sh
set -euo pipefail

base="$TENANTRY_API_URL/api/v3"
id="neostack-walk-$$"

call() {
  local method="$1" path="$2"
  shift 2
  echo "> $method $path ${*:2}"
  curl --silent --show-error --fail-with-body --request "$method" "$base$path" \
    --header "Authorization: Bearer $TENANTRY_ADMIN_TOKEN" --header "Content-Type: application/json" "$@"
  echo
}

call GET /health
call POST /tenants --data "{\"id\": \"$id\", \"name\": \"A walk\", \"domain\": \"walk.example\", \"plan_id\": 2}"
trap 'call DELETE "/tenants/$id"' EXIT
call GET "/tenants/$id"
call PATCH "/tenants/$id" --data '{"settings": {"theme": "dark"}, "plan_id": 1}'
call POST "/tenants/$id/resources" --data '{"resource_type": "api_calls", "used": 4200}'
call GET "/tenants/$id/resources"
call POST "/tenants/$id/schema"
call DELETE "/tenants/$id/schema"
call GET "/tenants?limit=3"
