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
# Migrations whose SQL lies in a ConfigMap; and the configuration of database servers that run in the cluster.
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get{{ if .Values.instances.enabled }}, create, patch, delete{{ end }}]
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
{{- if .Values.instances.enabled }}
# Database servers that run in the cluster: what they are made of. It touches what carries its labels only.
- apiGroups: [apps]
  resources: [statefulsets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [services]
  verbs: [get, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, create, patch, delete]
# Why a server does not start; it asks for pods labelled app.kubernetes.io/managed-by=tenantry only.
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch]
# Why its pod is not even made: for a quota, a policy, a PriorityClass that is not there.
- apiGroups: [""]
  resources: [events]
  verbs: [list]
# Their volumes: a size that grew, and what deletionPolicy Delete says.
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [get, list, watch, patch, delete]
# Servers that other operators run.
- apiGroups: [postgresql.cnpg.io]
  resources: [clusters]
  verbs: [get, create, patch, delete]
- apiGroups: [k8s.mariadb.com]
  resources: [mariadbs]
  verbs: [get, create, patch, delete]
{{- end }}
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
