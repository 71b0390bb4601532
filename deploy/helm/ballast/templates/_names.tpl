{{- define "ballast.fullname" -}}
{{- $own := ternary .Release.Name (printf "%s-ballast" .Release.Name) (contains "ballast" .Release.Name) -}}
{{- default $own .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{- define "ballast.selector" -}}
app.kubernetes.io/name: ballast
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with .part }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end }}

{{- define "ballast.labels" -}}
{{ include "ballast.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{- /* A digest wins over a tag, global.imageRegistry over the image's own. */ -}}
{{- define "ballast.image" -}}
{{- $registry := default .image.registry .root.Values.global.imageRegistry -}}
{{- $name := ternary .image.repository (printf "%s/%s" $registry .image.repository) (empty $registry) -}}
{{- if .image.digest -}}
{{ $name }}@{{ .image.digest }}
{{- else -}}
{{ $name }}:{{ default .root.Chart.AppVersion .image.tag }}
{{- end -}}
{{- end }}

{{- define "ballast.pullSecrets" -}}
{{- with .Values.global.imagePullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
{{- end }}

{{- define "ballast.cluster" -}}
{{ include "ballast.fullname" . }}-engines
{{- end }}

{{- /* Whether the ledger is PostgreSQL: then the controller has a Deployment of its own. */ -}}
{{- define "ballast.hasPostgres" -}}
{{- if or .Values.postgresql.url .Values.postgresql.urlKey }}yes{{ end -}}
{{- end }}

{{- define "ballast.hasRedis" -}}
{{- if or .Values.redis.url .Values.redis.urlKey }}yes{{ end -}}
{{- end }}

{{- define "ballast.hasEngines" -}}
{{- if or .Values.engines.ray.enabled .Values.engines.external }}yes{{ end -}}
{{- end }}

{{- /* Whether some engine stands where engines.pool says: all of Ray's, and those that say nothing else. */ -}}
{{- define "ballast.needsPool" -}}
{{- if .Values.engines.ray.enabled }}yes{{ end -}}
{{- range .Values.engines.external }}{{ if not .pool }}yes{{ end }}{{ end -}}
{{- end }}

{{- define "ballast.hasMtls" -}}
{{- range .Values.engines.external }}{{ if eq .via "mtls" }}yes{{ end }}{{ end -}}
{{- end }}

{{- /* Seconds of the longest answer that is streamed to a waiting client. */ -}}
{{- define "ballast.streamSeconds" -}}
{{- $said := .Values.gateway.drain.streamSeconds -}}
{{- $classes := dig "gateway" "classes" dict .Values.settings -}}
{{- $longest := 0 -}}
{{- range $name, $default := dict "live" 5 "interactive" 120 "patient" 600 -}}
{{- $longest = max $longest (int (ceil (float64 (dig $name "complete_s" $default $classes)))) -}}
{{- end -}}
{{- default $longest (int $said) -}}
{{- end }}

{{- /* preStop, the streams, the ledger, and ten seconds to end what is left. */ -}}
{{- define "ballast.graceSeconds" -}}
{{- $drain := .Values.gateway.drain -}}
{{- add (int $drain.preStopSeconds) (include "ballast.streamSeconds" . | int) (int $drain.ledgerSeconds) 10 -}}
{{- end }}

{{- define "ballast.engineDrain" -}}
{{- default (include "ballast.streamSeconds" . | int) (int .Values.engines.ray.drainSeconds) -}}
{{- end }}

{{- define "ballast.gatewayPods" -}}
{{- if .Values.gateway.autoscaling.enabled }}{{ .Values.gateway.autoscaling.minReplicas }}{{ else }}{{ .Values.gateway.replicas }}{{ end -}}
{{- end }}
