-- Health of Tenantry's resources in Argo CD: Tenant, Blueprint, BlueprintVersion, Rollout, DatabaseInstance,
-- Plan.
--
-- Their status is kstatus (conditions Ready, Reconciling, Stalled; status.observedGeneration), see
-- https://github.com/kubernetes-sigs/cli-utils/blob/master/pkg/kstatus/README.md
--
-- Argo CD runs this without Lua's string library; it needs none.

local function condition(name)
  for _, found in ipairs(obj.status.conditions or {}) do
    if found.type == name then
      return found
    end
  end
  return { status = "Unknown", reason = "", message = "" }
end

local function health(status, found)
  local message = found.message or ""
  if message == "" then
    message = found.reason or ""
  end
  return { status = status, message = message }
end

if obj.metadata.deletionTimestamp ~= nil then
  -- What a deletion waits for is in its Ready condition.
  local ready = obj.status ~= nil and condition("Ready") or {}
  return health("Progressing", { message = ready.status == "False" and ready.message or "being deleted" })
end

-- The API server gives a new object the observedGeneration -1: no operator has seen it yet.
if obj.status == nil or obj.status.observedGeneration ~= obj.metadata.generation then
  return { status = "Progressing", message = "waiting for the operator to see the change" }
end

local stalled = condition("Stalled")
if stalled.status == "True" then
  return health("Degraded", stalled)
end

local reconciling = condition("Reconciling")
if reconciling.status == "True" then
  return health("Progressing", reconciling)
end

local ready = condition("Ready")
if ready.status == "True" then
  -- Suspended, Archived and Deleted tenants are Healthy, not Suspended: Git says that they are to be so, and they
  -- are. Argo CD's own Suspended means "waits for somebody to resume it", and keeps a sync running until then.
  local quota = condition("QuotaExceeded")
  if quota.status == "True" then
    return health("Healthy", quota)
  end
  return health("Healthy", ready)
end
return health("Progressing", ready)
