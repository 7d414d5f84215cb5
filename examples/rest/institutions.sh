#!/usr/bin/env bash
# A walk through the contract of institutions. Needs the variables of .local/dev.env:
#   set -a; . .local/dev.env; set +a; bash examples/rest/institutions.sh
set -euo pipefail

base="$TENANTRY_API_URL/api/v1"
run="$$-$RANDOM"
token="" answer="" made=""

ask() {
  local method="$1" path="$2"
  shift 2
  answer="$(curl --silent --show-error --fail-with-body --request "$method" "$base$path" \
    --header "Authorization: Bearer $token" --header "Content-Type: application/json" "$@")"
}

call() {
  echo "> $1 $2 ${*:4}"
  ask "$@" || { echo "$answer"; return 1; }
  echo "$answer"
}

field() { # of the answer, which has it once
  sed -E "s/.*\"$1\":\"([^\"]+)\".*/\1/" <<<"$answer"
}

institution() { # slug, type, more fields
  echo "{\"name\": \"Institution $1\", \"slug\": \"$1\", \"type\": \"$2\", \"contact_email\": \"info@$1.example\"," \
    "\"legal_status\": \"PUBLIC\", \"max_users\": 200, \"max_diplomas\": 20000, \"storage_quota_mb\": 500${3:-}}"
}

clean_up() { # softly: the contract has no other way; `kubectl delete tenant` ends it
  for id in $made; do call DELETE "/tenants/$id"; done
}

echo "> POST /auth/login"
ask POST /auth/login --data "{\"email\": \"$TENANTRY_ADMIN_EMAIL\", \"password\": \"$TENANTRY_ADMIN_PASSWORD\"}"
token="$(field access_token)"
echo "${answer/"$token"/...}"

trap clean_up EXIT
call POST /tenants --data "$(institution "ministry-$run" MAIN)"
ministry="$(field id)" made="$(field id)"
call POST /tenants --data "$(institution "uy-$run" UNIVERSITY ", \"parent_id\": \"$ministry\"")"
university="$(field id)" made="$(field id) $made"

call GET "/tenants?status=ACTIVE&type=UNIVERSITY&parent_id=$ministry"
call PUT "/tenants/$university" --data '{"max_users": 250, "security_config": {"tsa_enabled": true}}'
call GET "/tenants/$university"
call GET "/tenants/$university/stats"
call DELETE "/tenants/$university"
call PUT "/tenants/$university" --data '{"status": "ACTIVE"}'
