{{/* The name of the operator's objects: quorate-operator for a release called quorate. At most 52
     characters, so that what is appended to it still fits. */}}
{{- define "quorate.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains "operator" .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-operator" (.Release.Name | trunc 43 | trimSuffix "-") -}}
{{- end -}}
{{- end -}}

{{- define "quorate.serviceAccountName" -}}
{{- default (include "quorate.fullname" .) .Values.serviceAccount.name -}}
{{- end -}}

{{/* quorate.dev/cluster is never among these: no cluster's selector may catch the operator. */}}
{{- define "quorate.selectorLabels" -}}
app.kubernetes.io/name: quorate-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "quorate.labels" -}}
{{ include "quorate.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: quorate
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "quorate.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{/* What the operator may do in a namespace that it looks after: every verb is one that it uses,
     and no resource is named by a wildcard. */}}
{{- define "quorate.rules" -}}
- apiGroups: [quorate.dev]
  resources: [etcdclusters]
  verbs: [get, list, watch, patch]
- apiGroups: [quorate.dev]
  resources: [etcdclusters/status]
  verbs: [update]
- apiGroups: [quorate.dev]
  # Owner references that block deletion ask for this where that admission is on.
  resources: [etcdclusters/finalizers]
  verbs: [update]
- apiGroups: [""]
  resources: [pods, persistentvolumeclaims]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  # A planned stop is an eviction, so that the disruption budget is asked.
  resources: [pods/eviction]
  verbs: [create]
- apiGroups: [""]
  # Immutable, one for each incarnation: never patched.
  resources: [configmaps]
  verbs: [list, create, delete]
- apiGroups: [""]
  # Applied, which asks for both; deleted with their cluster, through the owner reference.
  resources: [services, serviceaccounts]
  verbs: [get, create, patch]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, create, patch, delete]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end -}}
