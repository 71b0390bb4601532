{{- /* What the controller calls for rollouts, by `settings.rollout`: host and port of gate and hook. */ -}}
{{- define "ballast.rolloutHosts" -}}
{{- $rollout := default dict .Values.settings.rollout -}}
{{- $found := list -}}
{{- range list (dig "gate" "url" "" $rollout) (dig "hook" "url" "" $rollout) | compact | uniq -}}
{{- $host := regexReplaceAll ":[0-9]+$" (urlParse .).host "" -}}
{{- if not (has $host (list "127.0.0.1" "localhost" "[::1]")) -}}
{{- $found = append $found (dict "host" $host "port" (include "ballast.portOf" . | int) "address" (include "ballast.addressOf" .)) -}}
{{- end -}}
{{- end -}}
{{- dict "list" (uniq $found) | toJson -}}
{{- end }}

{{- define "ballast.checkRollout" -}}
{{- $rollout := default dict .Values.settings.rollout -}}
{{- if hasKey (default dict $rollout.hook) "secret_file" -}}
{{- fail "settings.rollout.hook.secret_file: the chart sets it; leave it out: it is entry secrets.identity.hookKey of the Secret" -}}
{{- end -}}
{{- if ne (empty (dig "hook" "url" "" $rollout)) (empty .Values.secrets.identity.hookKey) -}}
{{- fail "secrets.identity.hookKey: name it and settings.rollout.hook.url, or neither: what is told of rollouts is signed with it" -}}
{{- end -}}
{{- $policy := .Values.networkPolicy -}}
{{- range (include "ballast.rolloutHosts" . | fromJson).list -}}
{{- $isSettled := or .address (get $policy.egress.cidrs "rollout") (eq $policy.egress.mode "cilium") -}}
{{- if and $policy.enabled (not $isSettled) (not (and (eq $policy.egress.mode "open") (eq (int .port) 443))) -}}
{{- fail (printf "networkPolicy.egress.cidrs.rollout: name the addresses of %s:%d (settings.rollout), `[203.0.113.0/24]`: the controller calls it without a proxy" .host (int .port)) -}}
{{- end -}}
{{- end -}}
{{- end }}
