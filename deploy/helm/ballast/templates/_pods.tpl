{{- define "ballast.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "ballast.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- /* Sleeps without a shell where the cluster can (1.30). */ -}}
{{- define "ballast.preStop" -}}
{{- if semverCompare ">=1.30.0-0" .root.Capabilities.KubeVersion.Version -}}
sleep: {seconds: {{ .seconds }}}
{{- else -}}
exec: {command: [sleep, {{ .seconds | quote }}]}
{{- end -}}
{{- end }}

{{- /* Addresses that hold a user's name may be kept in a Secret; variables win over the file. */ -}}
{{- define "ballast.environment" -}}
- name: BALLAST_DEPLOYMENT_ID
  valueFrom: {secretKeyRef: {name: {{ .Values.secrets.identity.name }}, key: {{ .Values.secrets.identity.deploymentId }}}}
{{- with .Values.postgresql.urlKey }}
- name: BALLAST_LEDGER__URL
  valueFrom: {secretKeyRef: {name: {{ $.Values.postgresql.secret }}, key: {{ . }}}}
{{- end }}
{{- with .Values.redis.urlKey }}
- name: BALLAST_REDIS__URL
  valueFrom: {secretKeyRef: {name: {{ $.Values.redis.secret }}, key: {{ . }}}}
{{- end }}
- {name: HOME, value: /var/lib/ballast}
{{- end }}

{{- define "ballast.mounts" -}}
- {name: settings, mountPath: /etc/ballast/settings, readOnly: true}
- {name: identity, mountPath: /etc/ballast/identity, readOnly: true}
- {name: state, mountPath: /var/lib/ballast}
- {name: tmp, mountPath: /tmp}
{{- if .Values.secrets.providers }}
- {name: providers, mountPath: /etc/ballast/providers, readOnly: true}
{{- end }}
{{- if .Values.engines.ray.enabled }}
- {name: ray, mountPath: /etc/ballast/ray, readOnly: true}
{{- end }}
{{- if and (include "ballast.hasPostgres" .) .Values.postgresql.secret }}
- {name: postgresql, mountPath: /etc/ballast/postgresql, readOnly: true}
{{- end }}
{{- if .Values.redis.secret }}
- {name: redis, mountPath: /etc/ballast/redis, readOnly: true}
{{- end }}
{{- if .Values.tracing.secret }}
- {name: tracing, mountPath: /etc/ballast/tracing, readOnly: true}
{{- end }}
{{- end }}

{{- /* All but `state`, which differs. */ -}}
{{- define "ballast.volumes" -}}
{{- $keys := list .identity.secret .identity.pepper .identity.auditKey .identity.apiKeys .identity.reviewKey .identity.canaryKey .identity.hookKey | compact -}}
- name: settings
  configMap: {name: {{ .settings }}}
- name: identity
  secret:
    secretName: {{ .identity.name }}
    defaultMode: 288
    items:
    {{- range uniq $keys }}
      - {key: {{ . }}, path: {{ . }}}
    {{- end }}
- name: tmp
  emptyDir: {sizeLimit: 256Mi}
{{- with .root.Values.secrets.providers }}
- name: providers
  secret: {secretName: {{ . }}, defaultMode: 288}
{{- end }}
{{- if .root.Values.engines.ray.enabled }}
- name: ray
  secret:
    secretName: {{ .root.Values.secrets.ray }}
    defaultMode: 288
    items: [{key: auth_token, path: auth_token}]
{{- end }}
{{- if and (include "ballast.hasPostgres" .root) .root.Values.postgresql.secret }}
- name: postgresql
  secret: {secretName: {{ .root.Values.postgresql.secret }}, defaultMode: 288}
{{- end }}
{{- with .root.Values.redis.secret }}
- name: redis
  secret: {secretName: {{ . }}, defaultMode: 288}
{{- end }}
{{- with .root.Values.tracing.secret }}
- name: tracing
  secret:
    secretName: {{ . }}
    defaultMode: 288
    items: [{key: {{ $.root.Values.tracing.tokenKey }}, path: {{ $.root.Values.tracing.tokenKey }}}]
{{- end }}
{{- end }}

{{- define "ballast.controllerContainer" -}}
name: controller
image: {{ include "ballast.image" (dict "root" . "image" .Values.images.gateway) }}
imagePullPolicy: {{ .Values.images.pullPolicy }}
command: [python, -m, autoscale.app, --config, /etc/ballast/settings/settings.yaml]
env:
  {{- include "ballast.environment" . | nindent 2 }}
  {{- if include "ballast.hasPostgres" . }}
  - {name: BALLAST_GATEWAY__OPS_HOST, value: {{ include "ballast.fullname" . }}-ops}
  {{- /* The canaries' questions go through the public listener of any pod. */}}
  - {name: BALLAST_GATEWAY__HOST, value: {{ include "ballast.fullname" . }}-ops}
  {{- end }}
resources: {{- toYaml .Values.controller.resources | nindent 2 }}
securityContext: {{- include "ballast.containerSecurity" . | nindent 2 }}
ports: [{name: control, containerPort: 8090}]
livenessProbe:
  httpGet: {path: /livez, port: control}
  initialDelaySeconds: 20
  periodSeconds: 15
  timeoutSeconds: 5
  failureThreshold: 4
readinessProbe:
  httpGet: {path: /livez, port: control}
  periodSeconds: 15
  timeoutSeconds: 5
volumeMounts:
  {{- include "ballast.mounts" . | nindent 2 }}
{{- end }}
