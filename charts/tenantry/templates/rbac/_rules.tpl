{{/*
What the operator may do within the namespaces it serves. Each rule says why, and the list is complete: there is
no wildcard, no exec, no roles.
*/}}
{{- define "tenantry.namespacedRules" -}}
# The resources it serves. Status is a subresource of its own: the operator has no right to create or delete them.
- apiGroups: [tenantry.dev]
  resources: [tenants, blueprints, blueprintversions, rollouts, databaseinstances]
  verbs: [get, list, watch]
- apiGroups: [tenantry.dev]
  resources: [tenants/status, blueprints/status, blueprintversions/status, rollouts/status, databaseinstances/status]
  verbs: [patch]
# The finalizers, which are part of metadata: Kubernetes has no right that covers metadata alone. The operator
# writes the spec of nothing but the servers that it made itself.
- apiGroups: [tenantry.dev]
  resources: [tenants, rollouts, databaseinstances]
  verbs: [patch]
# A new version of a Blueprint makes a Rollout, in the place of one of that name from an earlier time.
- apiGroups: [tenantry.dev]
  resources: [rollouts]
  verbs: [create, delete]
# A server for each database of the isolation Instance.
- apiGroups: [tenantry.dev]
  resources: [databaseinstances]
  verbs: [create, delete]
# get: the administrator's login of a database server, by the name in a DatabaseInstance. create, update, delete:
# the tenants' logins. list, watch: to notice that one of these was changed or removed; the operator asks for the
# Secrets labelled app.kubernetes.io/managed-by=tenantry only, but RBAC cannot select by label. Use watchNamespaces
# to keep the operator away from the Secrets of other namespaces.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, list, watch, create, update, delete]
# Migrations whose SQL lies in a ConfigMap.
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get]
- apiGroups: [""]
  resources: [events]
  verbs: [create]
# The tenants' services: a Deployment each, and a Service where they have a port. The operator asks for those with its
# own labels only, and changes no other, but RBAC cannot select by label.
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, update, patch, delete]
- apiGroups: [""]
  resources: [services]
  verbs: [get, list, watch, create, update, delete]
# To say why a service does not come up.
- apiGroups: [""]
  resources: [pods]
  verbs: [list]
{{- end }}

{{/* What concerns the cluster as a whole, whichever namespaces are served. */}}
{{- define "tenantry.clusterRules" -}}
- apiGroups: [tenantry.dev]
  resources: [plans]
  verbs: [get, list, watch]
- apiGroups: [tenantry.dev]
  resources: [plans/status]
  verbs: [patch]
{{- if not .Values.watchNamespaces }}
# To notice that definitions were installed or changed.
- apiGroups: [apiextensions.k8s.io]
  resources: [customresourcedefinitions]
  verbs: [list, watch]
{{- end }}
{{- if not .Values.installationId }}
# Its uid names the installation.
- apiGroups: [""]
  resources: [namespaces]
  resourceNames: [kube-system]
  verbs: [get]
{{- end }}
{{- end }}
