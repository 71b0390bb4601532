{{- /* Hosts of the robots that alerts are told to: their addresses are secrets, their hosts are not
(the documents named in ballast/alerting/cards.py). */ -}}
{{- define "ballast.robotHosts" -}}
{{- $known := dict "feishu" "open.feishu.cn" "dingtalk" "oapi.dingtalk.com" "wecom" "qyapi.weixin.qq.com" -}}
{{- $found := list -}}
{{- if .Values.alerts.enabled -}}
{{- range .Values.alerts.robots }}{{ $found = append $found (default (get $known .kind) .host) }}{{ end -}}
{{- end -}}
{{- dict "list" (uniq $found | sortAlpha) | toJson -}}
{{- end }}

{{- define "ballast.checkAlerts" -}}
{{- $alerts := .Values.alerts -}}
{{- if $alerts.enabled -}}
{{- if not $alerts.robots }}{{ fail "alerts.robots: name at least one, `{name: duty, kind: feishu, urlKey: feishu-url}`, or switch alerts.enabled off" }}{{ end -}}
{{- $policy := .Values.networkPolicy -}}
{{- if and $policy.enabled (not $policy.egress.mode) -}}
{{- fail "networkPolicy.egress.mode: choose how the robots of alerts are reached: proxy, cilium, cidr, or open (any public address on 443)" -}}
{{- end -}}
{{- if and $policy.enabled (not $alerts.alertmanagers) -}}
{{- fail "alerts.alertmanagers: say where Alertmanager is (NetworkPolicyPeer): by default nobody may post" -}}
{{- end -}}
{{- $names := list -}}
{{- range $index, $robot := $alerts.robots -}}
{{- if has $robot.name $names }}{{ fail (printf "alerts.robots[%d].name: %q is given twice; rename one" $index $robot.name) }}{{ end -}}
{{- $names = append $names $robot.name -}}
{{- if and $policy.enabled (eq $policy.egress.mode "cidr") (not (get $policy.egress.cidrs $robot.kind)) -}}
{{- fail (printf "networkPolicy.egress.cidrs.%s: mode cidr needs the addresses of the %s robot's host" $robot.kind $robot.kind) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "ballast.checkTracing" -}}
{{- $tracing := .Values.tracing -}}
{{- $endpoint := dig "tracing" "endpoint" "" .Values.settings -}}
{{- if and $endpoint .Values.networkPolicy.enabled (not $tracing.collector) -}}
{{- fail "tracing.collector: say where the collector of settings.tracing.endpoint is (NetworkPolicyPeer): by default nothing is reachable" -}}
{{- end -}}
{{- if and (not $endpoint) (or $tracing.collector $tracing.secret) -}}
{{- fail "settings.tracing.endpoint: name the collector's address, or leave tracing.collector and tracing.secret out" -}}
{{- end -}}
{{- if ne (empty $tracing.secret) (empty $tracing.tokenKey) -}}
{{- fail "tracing.secret: name the Secret and its entry tracing.tokenKey, or neither" -}}
{{- end -}}
{{- end }}

{{- /* The bridge's own file; addresses and secrets of robots are mounted beside it. */ -}}
{{- define "ballast.alertsFile" -}}
{{- $alerts := .Values.alerts -}}
{{- $robots := list -}}
{{- range $alerts.robots -}}
{{- $robot := dict "name" .name "kind" .kind "url_file" (printf "/etc/ballast/robots/%s" .urlKey) -}}
{{- with .secretKey }}{{ $_ := set $robot "secret_file" (printf "/etc/ballast/robots/%s" .) }}{{ end -}}
{{- with .language }}{{ $_ := set $robot "language" . }}{{ end -}}
{{- with .severities }}{{ $_ := set $robot "severities" . }}{{ end -}}
{{- $robots = append $robots $robot -}}
{{- end -}}
{{- $file := dict "robots" $robots "host" "0.0.0.0" "port" 9095 "repeat_s" $alerts.repeatSeconds "token_file" (printf "/etc/ballast/robots/%s" $alerts.tokenKey) -}}
{{- if eq .Values.networkPolicy.egress.mode "proxy" }}{{ $_ := set $file "proxy" .Values.networkPolicy.egress.proxy.url }}{{ end -}}
{{- toYaml $file -}}
{{- end }}
