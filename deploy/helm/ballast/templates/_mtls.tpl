{{- /* One listener on loopback per engine; out of it only TLS with our certificate, to a name its own
certificate must hold. */ -}}
{{- define "ballast.envoy" -}}
static_resources:
  listeners:
  - name: ready
    address: {socket_address: {address: 0.0.0.0, port_value: 9099}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: ready
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
          route_config:
            virtual_hosts:
            - name: ready
              domains: ["*"]
              routes: [{match: {path: /ready}, direct_response: {status: 200}}]
  {{- range $index, $engine := .Values.engines.external }}
  {{- if eq $engine.via "mtls" }}
  - name: engine-{{ $index }}
    address: {socket_address: {address: 127.0.0.1, port_value: {{ add 9100 $index }}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.tcp_proxy
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
          stat_prefix: engine-{{ $index }}
          cluster: engine-{{ $index }}
          idle_timeout: 3600s
  {{- end }}
  {{- end }}
  clusters:
  {{- range $index, $engine := .Values.engines.external }}
  {{- if eq $engine.via "mtls" }}
  {{- $host := (urlParse $engine.url).hostname }}
  - name: engine-{{ $index }}
    type: STRICT_DNS
    dns_lookup_family: V4_PREFERRED
    connect_timeout: 2s
    load_assignment:
      cluster_name: engine-{{ $index }}
      endpoints:
      - lb_endpoints:
        - endpoint: {address: {socket_address: {address: {{ $host | quote }}, port_value: {{ include "ballast.portOf" $engine.url }}}}}
    transport_socket:
      name: envoy.transport_sockets.tls
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
        sni: {{ $host | quote }}
        common_tls_context:
          tls_params: {tls_minimum_protocol_version: TLSv1_3, tls_maximum_protocol_version: TLSv1_3}
          tls_certificates:
          - certificate_chain: {filename: /etc/mtls/tls.crt}
            private_key: {filename: /etc/mtls/tls.key}
          validation_context:
            trusted_ca: {filename: /etc/mtls/ca.crt}
            match_typed_subject_alt_names:
            - {san_type: {{ ternary "IP_ADDRESS" "DNS" (not (empty (include "ballast.addressOf" $engine.url))) }}, matcher: {exact: {{ $host | quote }}}}
  {{- end }}
  {{- end }}
{{- end }}

{{- define "ballast.envoyContainer" -}}
name: mtls
image: {{ include "ballast.image" (dict "root" . "image" .Values.engines.mtls.image) }}
imagePullPolicy: {{ .Values.images.pullPolicy }}
command: [envoy, --config-path, /etc/envoy/envoy.yaml, --disable-hot-restart]
resources: {{- toYaml .Values.engines.mtls.resources | nindent 2 }}
securityContext: {{- include "ballast.containerSecurity" . | nindent 2 }}
{{- /* A sidecar in Kubernetes' sense: it starts before the gateway and ends after its last stream. */}}
restartPolicy: Always
startupProbe:
  httpGet: {path: /ready, port: 9099}
  periodSeconds: 1
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /ready, port: 9099}
  periodSeconds: 10
  timeoutSeconds: 3
readinessProbe:
  httpGet: {path: /ready, port: 9099}
  periodSeconds: 5
  timeoutSeconds: 3
volumeMounts:
  - {name: mtls, mountPath: /etc/envoy, readOnly: true}
  - {name: mtls-certificates, mountPath: /etc/mtls, readOnly: true}
{{- end }}
