{{- define "tenantry.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" }}
{{- end }}

{{/* Short enough for a suffix such as -operator-metrics within the 63 characters of a label. */}}
{{- define "tenantry.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 46 | trimSuffix "-" }}
{{- else if contains (include "tenantry.name" .) .Release.Name }}
{{- .Release.Name | trunc 46 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "tenantry.name" .) | trunc 46 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/*
Cluster-scoped names carry the namespace: releases of one name may serve different namespaces of a cluster.
*/}}
{{- define "tenantry.clusterName" -}}
{{- printf "%s:%s-operator" .Release.Namespace (include "tenantry.fullname" .) }}
{{- end }}

{{/* Call with (list $ "operator"). */}}
{{- define "tenantry.selectorLabels" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ include "tenantry.name" $root }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* Call with (list $ "operator"). */}}
{{- define "tenantry.labels" -}}
{{- $root := index . 0 -}}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "tenantry.selectorLabels" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: tenantry
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
{{- with $root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/*
Call with (list $ "operator"): labels of a pod. Without the chart's version, so that a new chart with the same
image and settings restarts nothing.
*/}}
{{- define "tenantry.podLabels" -}}
{{- $root := index . 0 -}}
{{ include "tenantry.selectorLabels" . }}
app.kubernetes.io/part-of: tenantry
{{- with $root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- with (index $root.Values (index . 1)).podLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Call with (list $ "operator"): the name of the component's ServiceAccount. */}}
{{- define "tenantry.serviceAccountName" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{- $account := (index $root.Values $component).serviceAccount -}}
{{- if $account.create -}}
{{- default (printf "%s-%s" (include "tenantry.fullname" $root) $component) $account.name }}
{{- else -}}
{{- default "default" $account.name }}
{{- end }}
{{- end }}

{{/* Call with (list $ "operator"): the component's image. */}}
{{- define "tenantry.image" -}}
{{- $root := index . 0 -}}
{{- $image := (index $root.Values (index . 1)).image -}}
{{- printf "%s:%s" $image.repository (default $root.Chart.AppVersion $image.tag) }}
{{- with $image.digest }}@{{ . }}{{ end }}
{{- end }}

{{/* The operator's ServiceAccount as the subject of a binding. */}}
{{- define "tenantry.subject" -}}
kind: ServiceAccount
name: {{ include "tenantry.serviceAccountName" (list $ "operator") }}
namespace: {{ .Release.Namespace }}
{{- end }}

{{/* The served namespaces as a JSON list; empty: all. The operator's own is always served. */}}
{{- define "tenantry.namespaces" -}}
{{- if .Values.watchNamespaces }}
{{- concat .Values.watchNamespaces (list .Release.Namespace) | uniq | sortAlpha | toJson }}
{{- else }}
{{- list | toJson }}
{{- end }}
{{- end }}

{{/* Of a map, as JSON: what is not empty. */}}
{{- define "tenantry.given" -}}
{{- $given := dict }}
{{- range $name, $value := . }}
{{- if $value }}{{ $_ := set $given $name $value }}{{ end }}
{{- end }}
{{- $given | toJson }}
{{- end }}

{{/* Call with (list $ "operator"): the part of a pod's spec that is the same for both components. */}}
{{- define "tenantry.podPlacement" -}}
{{- $root := index . 0 -}}
{{- $values := index $root.Values (index . 1) -}}
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets:
{{ toYaml . }}
{{- end }}
{{- with $values.podSecurityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations:
{{ toYaml . }}
{{- end }}
{{- with $values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.topologySpreadConstraints }}
topologySpreadConstraints:
{{ toYaml . }}
{{- end }}
terminationGracePeriodSeconds: {{ $values.terminationGracePeriodSeconds }}
{{- end }}
