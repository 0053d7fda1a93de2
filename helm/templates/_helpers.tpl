{{- /* The name of everything that the release owns. */}}
{{- define "cpt.name" -}}
{{- if contains "cpt-operator" .Release.Name }}{{ .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}{{ printf "%s-cpt-operator" .Release.Name | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "cpt.selector" -}}
app.kubernetes.io/name: cpt-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "cpt.labels" -}}
{{ include "cpt.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- /* What the operator may do where it watches: nothing else, and no Secret anywhere. */}}
{{- define "cpt.rules" -}}
- apiGroups: [cpt.dev]
  resources: [cptexperiments]
  verbs: [get, list, watch]
- apiGroups: [cpt.dev]
  resources: [cpttrials]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [cpt.dev]
  resources: [cptexperiments/status, cpttrials/status]
  verbs: [patch]
- apiGroups: [kubeflow.org]
  resources: [pytorchjobs]
  verbs: [get, list, watch, create, delete]
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
- apiGroups: [""]
  resources: [events]
  verbs: [list, create]
{{- if .Values.kueue.enabled }}
- apiGroups: [kueue.x-k8s.io]
  resources: [workloads]
  verbs: [list, watch]
{{- end }}
{{- end }}
