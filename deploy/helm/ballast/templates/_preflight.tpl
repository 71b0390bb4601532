{{- define "ballast.preflightHook" -}}
helm.sh/hook: pre-install,pre-upgrade
helm.sh/hook-weight: {{ . | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end }}

{{- define "ballast.preflightRole" -}}
{{- $rules := list (dict "apiGroups" (list "") "resources" (list "persistentvolumeclaims") "verbs" (list "get")) -}}
{{- dict "rules" $rules | toJson -}}
{{- end }}

{{- define "ballast.preflightClusterRole" -}}
{{- $rules := list
  (dict "apiGroups" (list "") "resources" (list "nodes") "verbs" (list "list"))
  (dict "apiGroups" (list "storage.k8s.io") "resources" (list "storageclasses") "verbs" (list "get" "list"))
  (dict "apiGroups" (list "apiextensions.k8s.io") "resources" (list "customresourcedefinitions") "verbs" (list "get"))
  (dict "apiGroups" (list "apps") "resources" (list "deployments") "verbs" (list "list"))
-}}
{{- dict "rules" $rules | toJson -}}
{{- end }}

{{- /* What `ballast doctor --cluster` compares with the cluster; nothing secret. */ -}}
{{- define "ballast.clusterFacts" -}}
{{- $groups := list -}}
{{- if .Values.engines.ray.enabled -}}
{{- range .Values.engines.ray.groups -}}
{{- $gpu := default dict .gpu -}}
{{- $cache := default dict .cache -}}
{{- $groups = append $groups (dict "name" .name "terms" .terms "kind" (default "" $gpu.kind) "count" (default 0 $gpu.count) "resource" (default "nvidia.com/gpu" $gpu.resource) "nodes" .replicas "node_selector" (default dict .nodeSelector) "tolerations" (default list .tolerations) "claim" (default "" $cache.claim)) -}}
{{- end -}}
{{- end -}}
{{- $classes := list -}}
{{- if eq .Values.gateway.state.kind "pvc" }}{{ $classes = append $classes .Values.gateway.state.storageClass }}{{ end -}}
{{- $crds := list -}}
{{- if .Values.engines.ray.enabled }}{{ $crds = append $crds "rayclusters.ray.io" }}{{ end -}}
{{- if .Values.gatewayApi.enabled }}{{ $crds = append $crds "httproutes.gateway.networking.k8s.io" }}{{ end -}}
{{- if .Values.monitoring.serviceMonitor.enabled }}{{ $crds = append $crds "servicemonitors.monitoring.coreos.com" }}{{ end -}}
{{- if .Values.monitoring.podMonitor.enabled }}{{ $crds = append $crds "podmonitors.monitoring.coreos.com" }}{{ end -}}
{{- if .Values.monitoring.rules.enabled }}{{ $crds = append $crds "prometheusrules.monitoring.coreos.com" }}{{ end -}}
{{- if eq .Values.networkPolicy.egress.mode "cilium" }}{{ $crds = append $crds "ciliumnetworkpolicies.cilium.io" }}{{ end -}}
{{- dict "namespace" .Release.Namespace "groups" $groups "storage_classes" $classes "crds" $crds "ray" .Values.engines.ray.enabled "asks_providers" .Values.preflight.providers "reachable" ((include "ballast.reachable" . | fromJson).list) "egress" .Values.networkPolicy.egress.mode "network_policy" .Values.networkPolicy.enabled | toJson -}}
{{- end }}
