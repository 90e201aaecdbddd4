{{- define "rgpu-k8s.name" -}}
{{ default .Chart.Name .Values.nameOverride }}
{{- end -}}

{{- define "rgpu-k8s.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{ .Values.fullnameOverride }}
{{- else if contains .Chart.Name .Release.Name -}}
{{ .Release.Name }}
{{- else -}}
{{ .Release.Name }}-{{ .Chart.Name }}
{{- end -}}
{{- end -}}

{{- define "rgpu-k8s.account" -}}
{{- if .Values.serviceAccount.name -}}
{{ .Values.serviceAccount.name }}
{{- else -}}
{{ template "rgpu-k8s.fullname" . }}
{{- end -}}
{{- end -}}
