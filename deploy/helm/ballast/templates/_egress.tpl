{{- /* Jurisdictions that some tenant's rule admits; `*` is anywhere. As serving/records.py Residency. */ -}}
{{- define "ballast.jurisdictions" -}}
{{- $egress := .Values.networkPolicy.egress -}}
{{- $later := dict "residency" $egress.residency "jurisdictions" $egress.jurisdictions -}}
{{- $found := list -}}
{{- range append (default list .Values.settings.tenants) $later -}}
{{- $rule := default "premises" .residency -}}
{{- if eq $rule "anywhere" }}{{ $found = append $found "*" }}{{ end -}}
{{- if eq $rule "mainland" }}{{ $found = append $found "cn" }}{{ end -}}
{{- if eq $rule "named" }}{{ $found = concat $found (default list .jurisdictions) }}{{ end -}}
{{- end -}}
{{- dict "list" (uniq $found | sortAlpha) | toJson -}}
{{- end }}

{{- /* Providers that are switched on and that some tenant's data may reach: id, host, port. */ -}}
{{- define "ballast.reachable" -}}
{{- $rows := .Files.Get "files/providers.yaml" | fromYaml -}}
{{- $admitted := (include "ballast.jurisdictions" . | fromJson).list -}}
{{- $found := list -}}
{{- range default list .Values.settings.providers -}}
{{- $row := default dict (get $rows .id) -}}
{{- $where := default (default "zz" $row.jurisdiction) .jurisdiction -}}
{{- if or (has "*" $admitted) (has $where $admitted) -}}
{{- $url := default $row.base_url .base_url -}}
{{- range $name, $value := default dict .address }}{{ $url = replace (printf "{%s}" $name) $value $url }}{{ end -}}
{{- $host := regexReplaceAll "^https?://([^/]+).*$" $url "${1}" -}}
{{- $port := ternary 80 443 (hasPrefix "http://" $url) -}}
{{- if regexMatch ":[0-9]+$" $host -}}
{{- $port = regexFind "[0-9]+$" $host | int -}}
{{- $host = regexReplaceAll ":[0-9]+$" $host "" -}}
{{- end -}}
{{- $found = append $found (dict "id" .id "host" $host "port" $port) -}}
{{- end -}}
{{- end -}}
{{- dict "list" $found | toJson -}}
{{- end }}

{{- /* Hosts of the hubs that engines fetch weights from; a mirror stands for its hub. */ -}}
{{- define "ballast.hubHosts" -}}
{{- $hosts := list -}}
{{- if .Values.mirrors.huggingfaceUrl -}}
{{- $hosts = append $hosts (urlParse .Values.mirrors.huggingfaceUrl).hostname -}}
{{- else if eq .Values.mirrors.hub "huggingface" -}}
{{- $hosts = concat $hosts (list "huggingface.co" "*.huggingface.co" "*.hf.co") -}}
{{- end -}}
{{- if .Values.mirrors.modelscopeUrl -}}
{{- $hosts = append $hosts (urlParse .Values.mirrors.modelscopeUrl).hostname -}}
{{- else if eq .Values.mirrors.hub "modelscope" -}}
{{- $hosts = concat $hosts (list "modelscope.cn" "*.modelscope.cn" "*.aliyuncs.com") -}}
{{- end -}}
{{- dict "list" $hosts | toJson -}}
{{- end }}

{{- define "ballast.dnsRule" -}}
- to:
    - namespaceSelector:
        matchLabels: {kubernetes.io/metadata.name: {{ .Values.networkPolicy.dnsNamespace }}}
  ports: [{protocol: UDP, port: 53}, {protocol: TCP, port: 53}]
{{- end }}

{{- /* Any address of the public internet: not this cluster, its clouds' metadata or its neighbours. */ -}}
{{- define "ballast.publicRule" -}}
- to:
    - ipBlock:
        cidr: 0.0.0.0/0
        except: [0.0.0.0/8, 10.0.0.0/8, 100.64.0.0/10, 127.0.0.0/8, 169.254.0.0/16, 172.16.0.0/12, 192.168.0.0/16, 224.0.0.0/4, 240.0.0.0/4]
  ports: [{protocol: TCP, port: 443}]
{{- end }}

{{- /* `host:port` of a URL that names an address; empty for a name. */ -}}
{{- define "ballast.addressOf" -}}
{{- $host := (urlParse .).host -}}
{{- if regexMatch "^[0-9]+\\.[0-9]+\\.[0-9]+\\.[0-9]+(:[0-9]+)?$" $host -}}
{{- regexReplaceAll ":[0-9]+$" $host "" -}}
{{- end -}}
{{- end }}

{{- define "ballast.portOf" -}}
{{- $host := (urlParse .).host -}}
{{- if regexMatch ":[0-9]+$" $host }}{{ regexFind "[0-9]+$" $host }}{{ else }}{{ ternary 443 80 (hasPrefix "https" .) }}{{ end -}}
{{- end }}

{{- define "ballast.storePort" -}}
{{- $host := (urlParse .url).host -}}
{{- if regexMatch ":[0-9]+$" $host }}{{ regexFind "[0-9]+$" $host }}{{ else }}{{ .default }}{{ end -}}
{{- end }}
