{{- /* What the chart knows itself, laid over `settings`. The file is the one that one machine reads. */ -}}
{{- define "ballast.settings" -}}
{{- $said := deepCopy .Values.settings -}}
{{- $identity := .Values.secrets.identity -}}
{{- $folder := "/etc/ballast/identity" -}}
{{- $own := dict
  "state_dir" "/var/lib/ballast"
  "cache_dir" "/var/cache/ballast"
  "pepper_file" (printf "%s/%s" $folder $identity.pepper)
  "gateway" (dict "host" "0.0.0.0" "port" 8080 "ops_host" "0.0.0.0" "ops_port" 8081
    "pods" (include "ballast.gatewayPods" . | int) "drain_s" (include "ballast.streamSeconds" . | int))
  "fleet" (include "ballast.fleet" . | fromYaml)
  "controller" (include "ballast.controllerSettings" . | fromYaml)
  "weights" (include "ballast.weights" . | fromYaml)
-}}
{{- with $identity.apiKeys }}{{ $_ := set $own "keys_file" (printf "%s/%s" $folder .) }}{{ end -}}
{{- with $identity.auditKey }}{{ $_ := set $own "audit" (dict "key_file" (printf "%s/%s" $folder .)) }}{{ end -}}
{{- with $identity.reviewKey }}{{ $_ := set $own "review" (dict "key_file" (printf "%s/%s" $folder .)) }}{{ end -}}
{{- with $identity.canaryKey }}{{ $_ := set $own "canaries" (dict "key_file" (printf "%s/%s" $folder .)) }}{{ end -}}
{{- with $identity.hookKey }}{{ $_ := set $own "rollout" (dict "hook" (dict "secret_file" (printf "%s/%s" $folder .))) }}{{ end -}}
{{- $_ := set $own "ledger" (include "ballast.ledger" . | fromYaml) -}}
{{- if include "ballast.hasRedis" . }}{{ $_ := set $own "redis" (include "ballast.redis" . | fromYaml) }}{{ end -}}
{{- with .Values.tracing.tokenKey }}{{ $_ := set $own "tracing" (dict "token_file" (printf "/etc/ballast/tracing/%s" .)) }}{{ end -}}
{{- with .Values.settings.providers -}}
{{- $accounts := list -}}
{{- range . -}}
{{- $account := deepCopy . -}}
{{- $_ := set $account "api_key_file" (printf "/etc/ballast/providers/%s" .id) -}}
{{- if eq $.Values.networkPolicy.egress.mode "proxy" -}}
{{- $_ := set $account "proxy" $.Values.networkPolicy.egress.proxy.url -}}
{{- end -}}
{{- $accounts = append $accounts $account -}}
{{- end -}}
{{- $_ := set $own "providers" $accounts -}}
{{- end -}}
{{- if and .Values.settings.tenant_accounts (eq .Values.networkPolicy.egress.mode "proxy") -}}
{{- $theirs := list -}}
{{- range .Values.settings.tenant_accounts -}}
{{- $theirs = append $theirs (set (deepCopy .) "proxy" $.Values.networkPolicy.egress.proxy.url) -}}
{{- end -}}
{{- $_ := set $own "tenant_accounts" $theirs -}}
{{- end -}}
{{- toYaml (mustMergeOverwrite $said $own) -}}
{{- end }}

{{- define "ballast.fleet" -}}
secret_file: /etc/ballast/identity/{{ .Values.secrets.identity.secret }}
{{- if include "ballast.needsPool" . }}
pool:
  jurisdiction: {{ .Values.engines.pool.jurisdiction }}
  operator: {{ .Values.engines.pool.operator }}
  on_premises: {{ .Values.engines.pool.onPremises }}
{{- end }}
{{- if .Values.engines.ray.enabled }}
serve_url: http://{{ include "ballast.cluster" . }}-head-svc:8265
ray_token_file: /etc/ballast/ray/auth_token
{{- end }}
{{- with .Values.engines.external }}
static:
{{- range $index, $engine := . }}
  - model: {{ $engine.model }}
    {{- if eq $engine.via "mtls" }}
    url: http://127.0.0.1:{{ add 9100 $index }}{{ (urlParse $engine.url).path }}
    {{- else }}
    url: {{ $engine.url }}
    {{- end }}
    limit: {{ default 256 $engine.limit | int }}
    {{- with $engine.pool }}
    pool: {jurisdiction: {{ .jurisdiction }}, operator: {{ .operator | quote }}, on_premises: {{ .onPremises }}}
    {{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "ballast.weights" -}}
hub: {{ .Values.mirrors.hub }}
{{- with .Values.mirrors.huggingfaceUrl }}
huggingface_url: {{ . }}
{{- end }}
{{- with .Values.mirrors.modelscopeUrl }}
modelscope_url: {{ . }}
{{- end }}
{{- with .Values.secrets.hub.huggingface }}
huggingface_token_file: /etc/ballast/hub/{{ . }}
{{- end }}
{{- with .Values.secrets.hub.modelscope }}
modelscope_token_file: /etc/ballast/hub/{{ . }}
{{- end }}
{{- end }}

{{- define "ballast.ledger" -}}
exit_wait_s: {{ .Values.gateway.drain.ledgerSeconds }}
{{- if include "ballast.hasPostgres" . }}
{{- with .Values.postgresql.url }}
url: {{ . }}
{{- end }}
sslmode: {{ .Values.postgresql.sslmode }}
{{- if and .Values.postgresql.secret .Values.postgresql.passwordKey }}
password_file: /etc/ballast/postgresql/{{ .Values.postgresql.passwordKey }}
{{- end }}
{{- with .Values.postgresql.caKey }}
sslrootcert: /etc/ballast/postgresql/{{ . }}
{{- end }}
{{- end }}
{{- end }}

{{- define "ballast.redis" -}}
{{- with .Values.redis.url }}
url: {{ . }}
{{- end }}
{{- with .Values.redis.passwordKey }}
password_file: /etc/ballast/redis/{{ . }}
{{- end }}
{{- with .Values.redis.caKey }}
ca_file: /etc/ballast/redis/{{ . }}
{{- end }}
{{- end }}

{{- /* The controller leads by a lease of the cluster and owns the RayCluster's sizes. */ -}}
{{- define "ballast.controllerSettings" -}}
ops_host: 0.0.0.0
ops_port: 8090
{{- if include "ballast.hasPostgres" . }}
url: http://{{ include "ballast.fullname" . }}-controller:8090
{{- end }}
{{- $known := .Files.Get "files/known.yaml" | fromYaml }}
{{- if and .Values.engines.ray.enabled $known.controller_acting }}
acting:
  lease: {kind: kubernetes, name: {{ include "ballast.fullname" . }}-controller}
  cluster: {namespace: {{ .Release.Namespace }}, ray_cluster: {{ include "ballast.cluster" . }}}
{{- end }}
{{- end }}
