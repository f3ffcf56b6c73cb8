{{- define "netsnoop.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "netsnoop.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains (include "netsnoop.name" .) .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "netsnoop.name" .) | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "netsnoop.selector" -}}
app.kubernetes.io/name: {{ include "netsnoop.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: agent
{{- end -}}

{{- define "netsnoop.labels" -}}
{{ include "netsnoop.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "netsnoop.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "netsnoop.fullname" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{/* With a digest the tag is for people: nodes go by the digest. */}}
{{- define "netsnoop.image" -}}
{{- .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- with .Values.image.digest }}@{{ . }}{{ end }}
{{- end -}}

{{/* The directories of runtimes' sockets: those that are said, else the platform's. */}}
{{- define "netsnoop.runtimeDirectories" -}}
{{- if kindIs "slice" .Values.runtimeDirectories -}}
{{- .Values.runtimeDirectories | toJson -}}
{{- else -}}
{{- list (ternary "/run/crio" "/run/containerd" .Values.openshift.enabled) | toJson -}}
{{- end -}}
{{- end -}}

{{- define "netsnoop.capabilities" -}}
{{- if eq .Values.privileges "least" -}}
[BPF, DAC_READ_SEARCH, NET_ADMIN, NET_BROADCAST, NET_RAW, PERFMON, SYS_PTRACE]
{{- else -}}
[BPF, DAC_READ_SEARCH, NET_ADMIN, NET_BROADCAST, NET_RAW, PERFMON, SYS_ADMIN, SYS_PTRACE]
{{- end -}}
{{- end -}}

{{/* Kubernetes asks at the node's address; what listens elsewhere is asked there. */}}
{{- define "netsnoop.probe" -}}
httpGet:
  path: {{ .path }}
  port: metrics
  {{- if not (has .address (list "" "0.0.0.0" "::")) }}
  host: {{ .address | quote }}
  {{- end }}
{{- end -}}
