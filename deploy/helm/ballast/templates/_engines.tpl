{{- /* What every Ray process inherits, as serving/engine/ray_head.py sets it on one machine. */ -}}
{{- define "ballast.rayEnvironment" -}}
- {name: RAY_SERVE_ENABLE_DIRECT_INGRESS, value: "1"}
- {name: RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT, value: "30000"}
- {name: RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT, value: "31000"}
- {name: RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S, value: "5"}
- {name: RAY_SERVE_FORCE_STOP_UNHEALTHY_REPLICAS, value: "1"}
- {name: RAY_agent_register_timeout_ms, value: "180000"}
- {name: RAY_DEDUP_LOGS, value: "0"}
- {name: RAY_USAGE_STATS_ENABLED, value: "0"}
- {name: VLLM_NO_USAGE_STATS, value: "1"}
- {name: HOME, value: /home/ballast}
- {name: XDG_CACHE_HOME, value: /var/cache/ballast}
- {name: HF_HOME, value: /var/cache/ballast/huggingface}
- {name: MODELSCOPE_CACHE, value: /var/cache/ballast/modelscope}
- {name: VLLM_CACHE_ROOT, value: /var/cache/ballast/vllm}
{{- with .Values.mirrors.packages }}
- {name: PIP_INDEX_URL, value: {{ . | quote }}}
- {name: UV_DEFAULT_INDEX, value: {{ . | quote }}}
{{- end }}
{{- end }}

{{- /* The operator asks the same of its own accord, but with tools a small image has not. */ -}}
{{- define "ballast.rayProbes" -}}
startupProbe:
  httpGet: {path: /api/healthz, port: 52365}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /api/healthz, port: 52365}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 12
readinessProbe:
  httpGet: {path: /api/healthz, port: 52365}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 6
{{- end }}

{{- define "ballast.rayMounts" -}}
- {name: identity, mountPath: /etc/ballast/identity, readOnly: true}
- {name: tmp, mountPath: /tmp}
- {name: home, mountPath: /home/ballast}
- {name: shm, mountPath: /dev/shm}
- {name: cache, mountPath: /var/cache/ballast}
{{- if .Values.secrets.hub.name }}
- {name: hub, mountPath: /etc/ballast/hub, readOnly: true}
{{- end }}
{{- end }}

{{- /* Of the identity an engine gets the shared secret alone: no pepper, no keys. */ -}}
{{- define "ballast.rayVolumes" -}}
- name: identity
  secret:
    secretName: {{ .root.Values.secrets.identity.name }}
    defaultMode: 288
    items: [{key: {{ .root.Values.secrets.identity.secret }}, path: {{ .root.Values.secrets.identity.secret }}}]
- name: tmp
  emptyDir: {sizeLimit: 20Gi}
- name: home
  emptyDir: {sizeLimit: 1Gi}
- name: shm
  emptyDir: {medium: Memory, sizeLimit: {{ .shm }}}
- name: cache
  {{- if eq .cache.kind "hostPath" }}
  hostPath: {path: {{ .cache.path }}, type: Directory}
  {{- else if eq .cache.kind "pvc" }}
  persistentVolumeClaim: {claimName: {{ .cache.claim }}}
  {{- else }}
  emptyDir: {sizeLimit: {{ default "200Gi" .cache.size }}}
  {{- end }}
{{- with .root.Values.secrets.hub.name }}
- name: hub
  secret: {secretName: {{ . }}, defaultMode: 288}
{{- end }}
{{- end }}

{{- /* Counts belong to the controller once it has written them: an upgrade keeps what it finds. */ -}}
{{- define "ballast.liveGroups" -}}
{{- $live := lookup "ray.io/v1" "RayCluster" .Release.Namespace (include "ballast.cluster" .) -}}
{{- $found := dict -}}
{{- range dig "spec" "workerGroupSpecs" list (default dict $live) -}}
{{- $_ := set $found .groupName (dict "replicas" .replicas "scaleStrategy" .scaleStrategy) -}}
{{- end -}}
{{- toJson $found -}}
{{- end }}

{{- define "ballast.rayGroup" -}}
{{- $root := .root -}}
{{- $group := .group -}}
{{- $live := default dict (get .live $group.name) -}}
{{- $replicas := $group.replicas -}}
{{- if hasKey $live "replicas" }}{{ $replicas = $live.replicas }}{{ end -}}
{{- $gpu := default dict $group.gpu -}}
groupName: {{ $group.name }}
replicas: {{ $replicas }}
minReplicas: {{ $group.minReplicas }}
maxReplicas: {{ $group.maxReplicas }}
{{- with $live.scaleStrategy }}
scaleStrategy: {{- toYaml . | nindent 2 }}
{{- end }}
labels:
  ballast-terms: {{ $group.terms }}
  {{- with $gpu.kind }}
  ballast-gpu: {{ . }}
  {{- end }}
rayStartParams: {}
template:
  metadata:
    labels:
      {{- include "ballast.labels" (dict "root" $root "part" "engine") | nindent 6 }}
      ballast/terms: {{ $group.terms }}
      {{- with $gpu.kind }}
      ballast/gpu: {{ . }}
      {{- end }}
    annotations:
      {{- if ne $group.terms "spot" }}
      cluster-autoscaler.kubernetes.io/safe-to-evict: "false"
      karpenter.sh/do-not-disrupt: "true"
      {{- end }}
      ballast/group: {{ $group.name }}
  spec:
    {{- include "ballast.pullSecrets" $root | nindent 4 }}
    serviceAccountName: {{ include "ballast.fullname" $root }}-engine
    automountServiceAccountToken: false
    enableServiceLinks: false
    terminationGracePeriodSeconds: {{ add (include "ballast.engineDrain" $root | int) 30 }}
    securityContext: {{- include "ballast.podSecurity" $root | nindent 6 }}
    containers:
      - name: engine
        image: {{ include "ballast.image" (dict "root" $root "image" $root.Values.images.engine) }}
        imagePullPolicy: {{ $root.Values.images.pullPolicy }}
        env: {{- include "ballast.rayEnvironment" $root | nindent 10 }}
        ports:
          - {name: metrics, containerPort: 8080}
        resources:
          {{- $gpus := dict }}
          {{- if $gpu.count }}{{ $gpus = dict (default "nvidia.com/gpu" $gpu.resource) $gpu.count }}{{ end }}
          requests: {{- toYaml (merge dict $group.resources $gpus) | nindent 12 }}
          limits: {{- toYaml (merge dict $group.resources $gpus) | nindent 12 }}
        securityContext: {{- include "ballast.containerSecurity" $root | nindent 10 }}
        {{- include "ballast.rayProbes" $root | nindent 8 }}
        volumeMounts: {{- include "ballast.rayMounts" $root | nindent 10 }}
    volumes:
      {{- include "ballast.rayVolumes" (dict "root" $root "shm" (default "16Gi" $group.sharedMemory) "cache" (default (dict "kind" "emptyDir") $group.cache)) | nindent 6 }}
    {{- with $group.priorityClassName }}
    priorityClassName: {{ . }}
    {{- end }}
    {{- with $group.nodeSelector }}
    nodeSelector: {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- $tolerations := default list $group.tolerations }}
    {{- if $gpu.count }}
    {{- $tolerations = append $tolerations (dict "key" (default "nvidia.com/gpu" $gpu.resource) "operator" "Exists" "effect" "NoSchedule") }}
    {{- end }}
    {{- with $tolerations }}
    tolerations: {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with $group.affinity }}
    affinity: {{- toYaml . | nindent 6 }}
    {{- end }}
{{- end }}
