{{- /* What one key says against another. Each refusal names the key and what to do; the first ends
the rendering. What a single key may hold is in values.schema.json. */ -}}
{{- define "ballast.check" -}}
{{- include "ballast.checkOwned" . -}}
{{- include "ballast.checkStores" . -}}
{{- include "ballast.checkGateway" . -}}
{{- include "ballast.checkProviders" . -}}
{{- include "ballast.checkEngines" . -}}
{{- include "ballast.checkNetwork" . -}}
{{- include "ballast.checkEdge" . -}}
{{- include "ballast.checkImages" . -}}
{{- include "ballast.checkMonitoring" . -}}
{{- include "ballast.checkAlerts" . -}}
{{- include "ballast.checkTracing" . -}}
{{- include "ballast.checkRollout" . -}}
{{- end }}

{{- /* Settings that the chart fills in: told twice, they could differ. */ -}}
{{- define "ballast.checkOwned" -}}
{{- $owned := dict
  "deployment_id" "it is entry secrets.identity.deploymentId of the Secret"
  "state_dir" "the chart mounts it; see gateway.state"
  "cache_dir" "the chart mounts it; see engines.ray.groups[].cache"
  "pepper_file" "it is entry secrets.identity.pepper of the Secret"
  "keys_file" "it is entry secrets.identity.apiKeys of the Secret"
  "gateway.host" "the chart's pods listen on all of their addresses"
  "gateway.port" "use gateway.service.port"
  "gateway.ops_host" "the chart's pods listen on all of their addresses"
  "gateway.ops_port" "the ops Service has port 8081"
  "gateway.index" "each pod is one process"
  "gateway.pods" "use gateway.replicas or gateway.autoscaling"
  "gateway.drain_s" "use gateway.drain.streamSeconds"
  "fleet.static" "use engines.external"
  "fleet.serve_url" "use engines.ray.enabled"
  "fleet.ray_token_file" "it is entry auth_token of the Secret secrets.ray"
  "fleet.secret_file" "it is entry secrets.identity.secret of the Secret"
  "fleet.pool" "use engines.pool"
  "weights.hub" "use mirrors.hub"
  "weights.huggingface_url" "use mirrors.huggingfaceUrl"
  "weights.modelscope_url" "use mirrors.modelscopeUrl"
  "weights.huggingface_token_file" "use secrets.hub"
  "weights.modelscope_token_file" "use secrets.hub"
  "audit.key_file" "it is entry secrets.identity.auditKey of the Secret"
  "review.key_file" "it is entry secrets.identity.reviewKey of the Secret"
  "canaries.key_file" "it is entry secrets.identity.canaryKey of the Secret"
  "ledger.url" "use postgresql.url or postgresql.urlKey"
  "ledger.password_file" "use postgresql.secret and postgresql.passwordKey"
  "ledger.password_env" "use postgresql.secret and postgresql.passwordKey"
  "ledger.sslmode" "use postgresql.sslmode"
  "ledger.sslrootcert" "use postgresql.caKey"
  "ledger.exit_wait_s" "use gateway.drain.ledgerSeconds"
  "redis.url" "use redis.url or redis.urlKey"
  "redis.password_file" "use redis.secret and redis.passwordKey"
  "redis.password_env" "use redis.secret and redis.passwordKey"
  "redis.ca_file" "use redis.caKey"
  "controller.ops_port" "it is 8090 in the chart's pods"
  "tracing.token_file" "use tracing.secret and tracing.tokenKey"
-}}
{{- range $path, $remedy := $owned -}}
{{- $parts := splitList "." $path -}}
{{- $group := $.Values.settings -}}
{{- if eq (len $parts) 2 }}{{ $group = default dict (get $.Values.settings (first $parts)) }}{{ end -}}
{{- if hasKey $group (last $parts) -}}
{{- fail (printf "settings.%s: the chart sets it; leave it out: %s" $path $remedy) -}}
{{- end -}}
{{- end -}}
{{- range list "lease" "cluster" -}}
{{- if hasKey (dig "controller" "acting" dict $.Values.settings) . -}}
{{- fail (printf "settings.controller.acting.%s: the chart sets it; leave it out: it follows from the release's name and namespace" .) -}}
{{- end -}}
{{- end -}}
{{- range $index, $account := default list .Values.settings.providers -}}
{{- range list "api_key_file" "api_key_env" -}}
{{- if hasKey $account . -}}
{{- fail (printf "settings.providers[%d].%s: the chart sets it; leave it out: put the key into the Secret secrets.providers, as entry %s" $index . $account.id) -}}
{{- end -}}
{{- end -}}
{{- if and (hasKey $account "proxy") (eq $.Values.networkPolicy.egress.mode "proxy") -}}
{{- fail (printf "settings.providers[%d].proxy: networkPolicy.egress.mode proxy sets it; leave one of them out" $index) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "ballast.checkStores" -}}
{{- range $key, $store := dict "postgresql" .Values.postgresql "redis" .Values.redis -}}
{{- if and $store.url $store.urlKey }}{{ fail (printf "%s.url: %s.urlKey is given too; keep one of them" $key $key) }}{{ end -}}
{{- if and $store.urlKey (not $store.secret) }}{{ fail (printf "%s.urlKey: name the Secret that holds it in %s.secret" $key $key) }}{{ end -}}
{{- if and $store.caKey (not $store.secret) }}{{ fail (printf "%s.caKey: name the Secret that holds it in %s.secret" $key $key) }}{{ end -}}
{{- end -}}
{{- with .Values.redis }}{{ if and .passwordKey (not .secret) }}{{ fail "redis.passwordKey: name the Secret that holds it in redis.secret" }}{{ end }}{{ end -}}
{{- $needy := or (include "ballast.hasPostgres" .) (include "ballast.hasRedis" .) (and .Values.engines.ray.enabled .Values.engines.ray.gcs.faultTolerant) -}}
{{- if and .Values.networkPolicy.enabled $needy (not .Values.networkPolicy.databases) -}}
{{- fail "networkPolicy.databases: say where PostgreSQL and Redis are, `[{ipBlock: {cidr: 10.0.8.0/24}}]` or a pod selector: by default nothing is reachable" -}}
{{- end -}}
{{- end }}

{{- define "ballast.checkGateway" -}}
{{- $gateway := .Values.gateway -}}
{{- $scaling := $gateway.autoscaling -}}
{{- $many := or $scaling.enabled (gt (int $gateway.replicas) 1) -}}
{{- if and $many (not (include "ballast.hasPostgres" .)) -}}
{{- $key := ternary "gateway.autoscaling.enabled" "gateway.replicas" $scaling.enabled -}}
{{- fail (printf "%s: more than one gateway pod needs one ledger: name postgresql.url, or keep one replica" $key) -}}
{{- end -}}
{{- if and $scaling.enabled (gt (int $scaling.minReplicas) (int $scaling.maxReplicas)) -}}
{{- fail (printf "gateway.autoscaling.minReplicas: %d is above maxReplicas (%d); lower it" (int $scaling.minReplicas) (int $scaling.maxReplicas)) -}}
{{- end -}}
{{- if and $many (eq $gateway.state.kind "pvc") -}}
{{- fail "gateway.state.kind: a pvc belongs to one pod; use emptyDir with more than one replica (PostgreSQL keeps the rows)" -}}
{{- end -}}
{{- if and (gt (int .Values.controller.replicas) 1) (not (include "ballast.hasPostgres" .)) -}}
{{- fail "controller.replicas: without PostgreSQL the one controller runs in the gateway's pod; name postgresql.url, or keep 1" -}}
{{- end -}}
{{- $longest := include "ballast.streamSeconds" (dict "Values" (dict "gateway" (dict "drain" (dict "streamSeconds" 0)) "settings" .Values.settings)) | int -}}
{{- if and $gateway.drain.streamSeconds (lt (int $gateway.drain.streamSeconds) $longest) -}}
{{- fail (printf "gateway.drain.streamSeconds: %d would cut answers that may take %d s; raise it, or shorten settings.gateway.classes" (int $gateway.drain.streamSeconds) $longest) -}}
{{- end -}}
{{- $service := $gateway.service -}}
{{- if and (ne $service.type "LoadBalancer") (or $service.loadBalancerClass $service.loadBalancerSourceRanges) -}}
{{- fail (printf "gateway.service.type: %s takes no load balancer's settings; use LoadBalancer, or leave them out" $service.type) -}}
{{- end -}}
{{- if not (regexMatch "^[a-z]" (include "ballast.fullname" .)) -}}
{{- fail (printf "fullnameOverride: %s must begin with a letter; name one that does" (include "ballast.fullname" .)) -}}
{{- end -}}
{{- end }}

{{- define "ballast.checkProviders" -}}
{{- $rows := .Files.Get "files/providers.yaml" | fromYaml -}}
{{- $known := list -}}
{{- range $index, $account := default list .Values.settings.providers -}}
{{- $known = append $known $account.id -}}
{{- if and (not (hasKey $rows $account.id)) (not $.Values.settings.providers_dir) -}}
{{- fail (printf "settings.providers[%d].id: no provider %q; known are %s" $index $account.id (keys $rows | sortAlpha | join ", ")) -}}
{{- end -}}
{{- if not $.Values.secrets.providers -}}
{{- fail (printf "secrets.providers: name a Secret with the key of %s as entry %s" $account.id $account.id) -}}
{{- end -}}
{{- end -}}
{{- range $index, $model := default list .Values.settings.models -}}
{{- range default list $model.offerings -}}
{{- $id := splitList "/" . | first -}}
{{- if not (has $id $known) -}}
{{- fail (printf "settings.models[%d].offerings: %s is sold by %q, which settings.providers does not name; add it there" $index . $id) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $index, $tenant := default list .Values.settings.tenants -}}
{{- if and (eq (default "premises" $tenant.residency) "named") (not $tenant.jurisdictions) -}}
{{- fail (printf "settings.tenants[%d].jurisdictions: residency is named; name countries, `[cn, sg]`" $index) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "ballast.checkEngines" -}}
{{- $ray := .Values.engines.ray -}}
{{- $has := include "ballast.hasEngines" . -}}
{{- if and (include "ballast.needsPool" .) (not (and .Values.engines.pool.jurisdiction .Values.engines.pool.operator)) -}}
{{- fail "engines.pool: say where the engines stand and who runs them, `{jurisdiction: cn, operator: acme, onPremises: true}`: residency is judged by it" -}}
{{- end -}}
{{- $names := list -}}
{{- range $index, $model := default list .Values.settings.models -}}
{{- $names = append $names $model.name -}}
{{- if and (or (hasKey $model "engine") $model.gpu) (not $has) -}}
{{- fail (printf "settings.models[%d]: %s has an engine, and there are none; switch engines.ray.enabled on, list one in engines.external, or leave its engine and gpu out" $index $model.name) -}}
{{- end -}}
{{- end -}}
{{- $groups := list -}}
{{- range $ray.groups }}{{ $groups = append $groups .name }}{{ end -}}
{{- range $index, $machine := dig "controller" "acting" "machines" list .Values.settings -}}
{{- if and (eq $machine.by "cluster") (not (has $machine.group $groups)) -}}
{{- fail (printf "settings.controller.acting.machines[%d].group: %q is none of engines.ray.groups; add it there" $index (default "" $machine.group)) -}}
{{- end -}}
{{- end -}}
{{- if $ray.enabled -}}
{{- if not $ray.groups }}{{ fail "engines.ray.groups: name at least one kind of machine" }}{{ end -}}
{{- if and $ray.gcs.faultTolerant (not (regexMatch ":[0-9]+$" $ray.gcs.redisAddress)) -}}
{{- fail "engines.ray.gcs.redisAddress: name `host:port` of a Redis, or set engines.ray.gcs.faultTolerant to false and lose all engines with the head" -}}
{{- end -}}
{{- if and .Values.controller.enabled (not (include "ballast.hasPostgres" .)) -}}
{{- fail "engines.ray.enabled: the controller that owns the RayCluster needs a Deployment of its own; name postgresql.url" -}}
{{- end -}}
{{- $seen := list -}}
{{- range $index, $group := $ray.groups -}}
{{- $where := printf "engines.ray.groups[%d]" $index -}}
{{- if has $group.name $seen }}{{ fail (printf "%s.name: %q is given twice; rename one" $where $group.name) }}{{ end -}}
{{- $seen = append $seen $group.name -}}
{{- if or (gt (int $group.minReplicas) (int $group.replicas)) (gt (int $group.replicas) (int $group.maxReplicas)) -}}
{{- fail (printf "%s.replicas: %d is not between minReplicas (%d) and maxReplicas (%d); mend one of them" $where (int $group.replicas) (int $group.minReplicas) (int $group.maxReplicas)) -}}
{{- end -}}
{{- $said := dict "jurisdiction" $.Values.engines.pool.jurisdiction "operator" $.Values.engines.pool.operator "onPremises" $.Values.engines.pool.onPremises -}}
{{- if and $group.pool (ne (toJson $group.pool) (toJson $said)) -}}
{{- fail (printf "%s.pool: a RayCluster is one pool to the router, for Ray places a replica on any group that has room: data could leave the rule it is judged by. Keep it as engines.pool, or give these machines a release of their own and name that as a provider of this one (docs/deploy.md, section 6)" $where) -}}
{{- end -}}
{{- $cache := default (dict "kind" "emptyDir") $group.cache -}}
{{- if and (eq $cache.kind "hostPath") (not $cache.path) }}{{ fail (printf "%s.cache.path: a hostPath needs a folder of the machine, `/mnt/nvme/ballast`" $where) }}{{ end -}}
{{- if and (eq $cache.kind "pvc") (not $cache.claim) }}{{ fail (printf "%s.cache.claim: a pvc needs the name of an existing claim" $where) }}{{ end -}}
{{- end -}}
{{- end -}}
{{- range $index, $engine := .Values.engines.external -}}
{{- $where := printf "engines.external[%d]" $index -}}
{{- if not (has $engine.model $names) -}}
{{- fail (printf "%s.model: %q is no name of settings.models; add it there" $where $engine.model) -}}
{{- end -}}
{{- if and (eq $engine.via "mtls") (not $.Values.engines.mtls.secret) -}}
{{- fail (printf "%s.via: mtls needs certificates; name a Secret with tls.crt, tls.key and ca.crt in engines.mtls.secret" $where) -}}
{{- end -}}
{{- if and (eq $engine.via "mtls") (not (or $.Values.engines.mtls.image.tag $.Values.engines.mtls.image.digest)) -}}
{{- fail "engines.mtls.image: name a tag or a digest: it is not of this chart's version" -}}
{{- end -}}
{{- if and $.Values.networkPolicy.enabled (not $engine.cidr) (not (include "ballast.addressOf" $engine.url)) -}}
{{- fail (printf "%s.cidr: a NetworkPolicy knows no names; say where %s is, `203.0.113.7/32`" $where $engine.url) -}}
{{- end -}}
{{- end -}}
{{- with .Values.secrets.hub }}{{ if and (or .huggingface .modelscope) (not .name) }}{{ fail "secrets.hub.name: name the Secret that holds the hubs' tokens" }}{{ end }}{{ end -}}
{{- end }}

{{- define "ballast.checkNetwork" -}}
{{- $policy := .Values.networkPolicy -}}
{{- $egress := $policy.egress -}}
{{- if and (eq $egress.residency "named") (not $egress.jurisdictions) -}}
{{- fail "networkPolicy.egress.jurisdictions: residency is named; name countries, `[cn, sg]`" -}}
{{- end -}}
{{- $reachable := (include "ballast.reachable" . | fromJson).list -}}
{{- if and $policy.enabled $reachable (not $egress.mode) -}}
{{- fail "networkPolicy.egress.mode: choose how providers are reached: proxy, cilium, cidr, or open (any public address on 443)" -}}
{{- end -}}
{{- if eq $egress.mode "proxy" -}}
{{- if not (and $egress.proxy.url $egress.proxy.cidr) }}{{ fail "networkPolicy.egress.proxy: mode proxy needs its url and the cidr where it is" }}{{ end -}}
{{- end -}}
{{- if eq $egress.mode "cidr" -}}
{{- range $reachable -}}
{{- if not (get $egress.cidrs .id) }}{{ fail (printf "networkPolicy.egress.cidrs.%s: mode cidr needs the addresses of %s, `[203.0.113.0/24]`" .id .host) }}{{ end -}}
{{- end -}}
{{- end -}}
{{- range $reachable -}}
{{- if contains "{" .host }}{{ fail (printf "settings.providers: %s: its address is %s; fill the braces in by `address`, or name base_url" .id .host) }}{{ end -}}
{{- end -}}
{{- end }}

{{- define "ballast.checkEdge" -}}
{{- $ingress := .Values.ingress -}}
{{- $api := .Values.gatewayApi -}}
{{- if and $ingress.enabled $api.enabled }}{{ fail "gatewayApi.enabled: ingress.enabled is on too; choose one edge" }}{{ end -}}
{{- if and $ingress.enabled (not $ingress.host) }}{{ fail "ingress.host: name the host; keys must not travel to any other" }}{{ end -}}
{{- if and $ingress.enabled (not $ingress.tlsSecret) }}{{ fail "ingress.tlsSecret: name a Secret with the certificate: keys and prompts do not travel in the clear" }}{{ end -}}
{{- if and $api.enabled (not $api.hostnames) }}{{ fail "gatewayApi.hostnames: name at least one host" }}{{ end -}}
{{- if and $api.enabled (not $api.parent.name) (not (and $api.className $api.tlsSecret)) -}}
{{- fail "gatewayApi.parent.name: name an existing Gateway, or className and tlsSecret of one to make" -}}
{{- end -}}
{{- end }}

{{- define "ballast.checkImages" -}}
{{- $images := dict "images.gateway" .Values.images.gateway -}}
{{- if .Values.engines.ray.enabled }}{{ $_ := set $images "images.engine" .Values.images.engine }}{{ end -}}
{{- if include "ballast.hasMtls" . }}{{ $_ := set $images "engines.mtls.image" .Values.engines.mtls.image }}{{ end -}}
{{- range $key, $image := $images -}}
{{- if eq $image.tag "latest" }}{{ fail (printf "%s.tag: `latest` names another image tomorrow; name a version, or better a digest" $key) }}{{ end -}}
{{- if and $.Values.images.requireDigests (not $image.digest) }}{{ fail (printf "%s.digest: images.requireDigests is on; name `sha256:...`" $key) }}{{ end -}}
{{- end -}}
{{- end }}

{{- define "ballast.checkMonitoring" -}}
{{- if and .Values.monitoring.alertmanager.enabled (not .Values.alerts.enabled) -}}
{{- fail "monitoring.alertmanager.enabled: its receiver is the bridge, and there is none; switch alerts.enabled on" -}}
{{- end -}}
{{- if and .Values.monitoring.podMonitor.enabled (not .Values.engines.ray.enabled) -}}
{{- fail "monitoring.podMonitor.enabled: it scrapes Ray's pods, and there are none; switch it off" -}}
{{- end -}}
{{- end }}
