{{- define "shadowtap.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "shadowtap.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains (include "shadowtap.name" .) .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "shadowtap.name" .) | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- /* What a selector may use: labels that no upgrade changes. */ -}}
{{- define "shadowtap.selectorLabels" -}}
app.kubernetes.io/name: {{ include "shadowtap.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "shadowtap.labels" -}}
{{ include "shadowtap.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "shadowtap.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "shadowtap.fullname" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{- define "shadowtap.priorityClassName" -}}
{{- if .Values.priorityClassName -}}
{{- .Values.priorityClassName -}}
{{- else if .Values.priorityClass.create -}}
{{- include "shadowtap.fullname" . -}}
{{- end -}}
{{- end -}}

{{- define "shadowtap.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{- /* How the kubelet probes: in the node's network, on loopback. */ -}}
{{- define "shadowtap.probe" -}}
port: {{ .Values.metrics.port }}
{{- if .Values.hostNetwork }}
host: 127.0.0.1
{{- end }}
{{- end -}}

{{- define "shadowtap.securityContext" -}}
{{- if eq .Values.securityProfile "privileged" -}}
privileged: true
readOnlyRootFilesystem: true
{{- else -}}
privileged: false
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
# Capabilities added to a container are effective for root only.
runAsUser: 0
runAsGroup: 0
capabilities:
  drop: [ALL]
  add:
  - BPF
  - NET_ADMIN
  - NET_BROADCAST # to hear of changes in all network namespaces
  - PERFMON
  - SYS_ADMIN # setns(2)
  {{- if .Values.hostPID }}
  - SYS_PTRACE # other processes' /proc/PID/ns
  {{- end }}
  {{- range .Values.extraCapabilities }}
  - {{ . }}
  {{- end }}
seccompProfile:
  type: RuntimeDefault
{{- if and .Values.hostPID (include "shadowtap.appArmorField" .) }}
# The default profile of the runtimes lets a container trace itself only, and
# reading another process's /proc/PID/ns/net counts as that.
appArmorProfile:
  type: Unconfined
{{- end }}
{{- end -}}
{{- end -}}

{{- /* Not empty where the field of AppArmor is known; before, it was an annotation. */ -}}
{{- define "shadowtap.appArmorField" -}}
{{- if semverCompare ">=1.30.0-0" .Capabilities.KubeVersion.Version -}}true{{- end -}}
{{- end -}}
