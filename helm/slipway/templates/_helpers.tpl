{{- define "slipway.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains (include "slipway.name" .) .Release.Name -}}
{{- include "slipway.shortened" .Release.Name -}}
{{- else -}}
{{- include "slipway.shortened" (printf "%s-%s" .Release.Name (include "slipway.name" .)) -}}
{{- end -}}
{{- end -}}

{{/* A Service's name has at most 63 characters. Long names stay different when they are cut. */}}
{{- define "slipway.shortened" -}}
{{- if gt (len .) 40 -}}
{{- printf "%s-%s" (trunc 33 . | trimSuffix "-") (sha256sum . | trunc 6) -}}
{{- else -}}
{{- . -}}
{{- end -}}
{{- end -}}

{{/* The name of cluster-scoped objects: it contains the namespace, so releases of one name do not collide. */}}
{{- define "slipway.clusterName" -}}
{{- printf "%s:%s" (include "slipway.fullname" .) .Release.Namespace -}}
{{- end -}}

{{- define "slipway.name" -}}
{{- default .Chart.Name .Values.nameOverride -}}
{{- end -}}

{{/* The labels by which the Deployment selects its pods. Do not change them: a selector is immutable. */}}
{{- define "slipway.selector" -}}
app.kubernetes.io/name: {{ include "slipway.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "slipway.labels" -}}
{{ include "slipway.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: slipway
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{- define "slipway.serviceAccountName" -}}
{{- if not (or .Values.serviceAccount.create .Values.serviceAccount.name) -}}
{{- fail "serviceAccount.name: name the account that is there, or set serviceAccount.create" -}}
{{- end -}}
{{- default (include "slipway.fullname" .) .Values.serviceAccount.name -}}
{{- end -}}

{{/* The name of the service account to which the operator's roles are bound. */}}
{{- define "slipway.subjects" -}}
- kind: ServiceAccount
  name: {{ include "slipway.serviceAccountName" . }}
  namespace: {{ .Release.Namespace | quote }}
{{- end -}}

{{/* The restricted Pod Security profile, and a read-only root file system. */}}
{{- define "slipway.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "slipway.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* Objects that the operator applies, by file name: on the first install, Helm cannot create objects of the CRDs in this release. */}}
{{- define "slipway.defaults" -}}
{{- if .Values.defaults.compressionPlugins }}
{{ (.Files.Glob "files/plugins/*.yaml").AsConfig }}
{{- end }}
{{- if .Values.defaultStore.enabled }}
stores.yaml: |
  {{- range include "slipway.storeNamespaces" . | fromJsonArray }}
  ---
  {{- include "slipway.store" (list $ .) | nindent 2 }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "slipway.shippedPlugins" -}}
{{- $names := list -}}
{{- range $path, $_ := .Files.Glob "files/plugins/*.yaml" -}}
{{- $names = append $names ($.Files.Get $path | fromYaml).metadata.name -}}
{{- end -}}
{{- toJson $names -}}
{{- end -}}

{{/* An image from the values, by its digest if one is set. Call it with (list $ "operator"). */}}
{{- define "slipway.image" -}}
{{- $root := index . 0 -}}
{{- $image := index $root.Values.image (index . 1) -}}
{{- with index ($root.Values.image.digests | default dict) (index . 1) -}}
{{- printf "%s@%s" (regexReplaceAll "(:[^/:@]+)?(@sha256:[0-9a-f]{64})?$" $image "") . -}}
{{- else -}}
{{- $image -}}
{{- end -}}
{{- end -}}

{{- define "slipway.leaseName" -}}
{{- include "slipway.fullname" . }}-operator
{{- end -}}
