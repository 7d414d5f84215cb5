#!/usr/bin/env bash
# A walk through the contract of tenant management. Needs the variables of .local/dev.env:
#   set -a; . .local/dev.env; set +a; bash examples/rest/management.sh
set -euo pipefail

api="${TENANTRY_API_URL:?}"
base="$api/tenant-management/v1"
slug="walk-$(date +%s)-$$"
headers=$(mktemp)
body=$(mktemp)

if [ -z "${TENANTRY_ADMIN_TOKEN:-}" ]; then
  login=$(printf '{"email": "%s", "password": "%s"}' \
    "${TENANTRY_ADMIN_EMAIL:?}" "${TENANTRY_ADMIN_PASSWORD:?}")
  answer=$(curl -sS --fail -X POST "$api/api/v1/auth/login" -H 'Content-Type: application/json' -d "$login")
  TENANTRY_ADMIN_TOKEN=$(sed -n 's/.*"access_token" *: *"\([^"]*\)".*/\1/p' <<<"$answer")
fi

# call STATUS METHOD PATH [curl's other arguments]: prints the call and its answer; ends when it is another one.
call() {
  local wanted=$1 method=$2 path=$3 status
  shift 3
  echo
  echo "> $method $path $*"
  : >"$body"
  status=$(curl -sS -o "$body" -D "$headers" -w '%{http_code}' -X "$method" "$base$path" \
    -H "Authorization: Bearer $TENANTRY_ADMIN_TOKEN" -H 'Content-Type: application/json' "$@")
  echo "  $status $(cat "$body")"
  if [ "$status" != "$wanted" ]; then
    echo "expected $wanted" >&2
    return 1
  fi
}

clean_up() {
  # The contract cannot delete; neostack's can, where it is served.
  curl -sS -o /dev/null -X DELETE "$api/api/v3/tenants/$slug" \
    -H "Authorization: Bearer $TENANTRY_ADMIN_TOKEN" || true
  rm -f "$headers" "$body"
}
trap clean_up EXIT

echo "# A draft, made once however often it is asked for"
new="{\"slug\": \"$slug\", \"legal_name\": \"Acme Inc\"}"
call 201 POST /tenants -H "Idempotency-Key: $slug" -d "$new"
call 201 POST /tenants -H "Idempotency-Key: $slug" -d "$new"
call 409 POST /tenants -d "$new"

echo
echo "# Who it is, and where its data may lie"
call 200 PUT "/tenants/$slug" -d '{"legal_name": "Acme Incorporated"}'
call 200 PUT "/tenants/$slug/residency" -d '{"policy_id": "eu-only", "effective_from": "2025-10-01"}'
call 200 GET "/tenants/$slug/residency"
call 200 GET "/tenants/$slug/regions"
call 200 PUT "/tenants/$slug/regions" -d '{"items": ["eu-central-1"]}'
call 400 PUT "/tenants/$slug/regions" -d '{"items": ["ap-nowhere-1"]}'
call 200 PUT "/tenants/$slug/regions" -d '{"items": []}'
call 200 PUT "/tenants/$slug/plan" -d '{"plan_code": "pro", "effective_from": "2025-10-01"}'
call 200 GET "/tenants/$slug/plan"
call 200 PUT "/tenants/$slug/contacts" \
  -d '{"items": [{"role": "owner", "name": "Jane Doe", "email": "owner@example.com"}]}'
call 200 GET "/tenants/$slug/contacts"
call 200 PUT "/tenants/$slug/external-ids" -d '{"items": [{"system_key": "billing", "id_value": "BILL-123"}]}'
call 200 GET "/tenants/$slug/external-ids"

echo
echo "# A change of what was read, and of nothing newer"
call 200 GET "/tenants/$slug/tags"
etag=$(sed -n 's/^[Ee][Tt]ag: *\(.*[^[:space:]]\).*$/\1/p' "$headers")
call 304 GET "/tenants/$slug/tags" -H "If-None-Match: $etag"
tags='{"items": [{"tag_key": "sector", "tag_value": "manufacturing"}]}'
call 200 PUT "/tenants/$slug/tags" -H "If-Match: $etag" -d "$tags"
call 412 PUT "/tenants/$slug/tags" -H "If-Match: $etag" -d '{"items": []}'

echo
echo "# Its life"
call 409 POST "/tenants/$slug/lifecycle/suspend"
call 200 POST "/tenants/$slug/lifecycle/activate" -H "Idempotency-Key: activate-$slug"
call 200 POST "/tenants/$slug/lifecycle/suspend"
call 200 POST "/tenants/$slug/lifecycle/resume"
call 200 GET "/tenants/$slug"
call 200 GET "/tenants?q=$slug&status=active&region=eu-west-1&tag=sector:manufacturing"
call 200 POST "/tenants/$slug/lifecycle/archive"
