{{/* The namespaces of the default store. Fails with the value's name on errors that the schema cannot find. */}}
{{- define "slipway.storeNamespaces" -}}
{{- $store := .Values.defaultStore -}}
{{- $given := list -}}
{{- range $value, $set := dict "claim.existing" $store.claim.existing "claim.size" $store.claim.size "s3.bucket" $store.s3.bucket -}}
{{- if $set }}{{ $given = append $given $value }}{{ end -}}
{{- end -}}
{{- if ne (len $given) 1 -}}
{{- fail (printf "defaultStore: give one of claim.existing, claim.size and s3.bucket, not %s" (join " and " $given | default "none")) -}}
{{- end -}}
{{- if and $store.s3.bucket (eq (empty $store.s3.secretRef) (empty $store.s3.serviceAccountName)) -}}
{{- fail "defaultStore.s3: give one of secretRef and serviceAccountName" -}}
{{- end -}}
{{- if and $store.claim.storageClassName (not $store.claim.size) -}}
{{- fail "defaultStore.claim.storageClassName is of a new claim: give claim.size, or take it out" -}}
{{- end -}}
{{- if and $store.claim.subPath $store.s3.bucket -}}
{{- fail "defaultStore.claim.subPath is of a claim: take it out, or use s3.prefix" -}}
{{- end -}}
{{- if and $store.s3 (not $store.s3.bucket) -}}
{{- fail (printf "defaultStore.s3.%s is of a bucket: give s3.bucket, or take it out" (keys $store.s3 | sortAlpha | first)) -}}
{{- end -}}
{{- $namespaces := $store.namespaces | default .Values.namespaces -}}
{{- if not $namespaces -}}
{{- fail "defaultStore.namespaces: name them: the operator serves all namespaces, and those to come" -}}
{{- end -}}
{{- range $namespaces -}}
{{- if not (or (empty $.Values.namespaces) (has . $.Values.namespaces)) -}}
{{- fail (printf "defaultStore.namespaces: %s is not served; add it to namespaces" .) -}}
{{- end -}}
{{- end -}}
{{- toJson $namespaces -}}
{{- end -}}

{{- define "slipway.storeClaim" -}}
{{- .Values.defaultStore.claim.existing | default (printf "%s-%s" (include "slipway.fullname" .) .Values.defaultStore.name) -}}
{{- end -}}

{{/* The ArtifactStore of one namespace. Call it with (list $ namespace). */}}
{{- define "slipway.store" -}}
{{- $namespace := last . -}}
{{- with first . -}}
{{- $store := .Values.defaultStore -}}
apiVersion: slipway.dev/v1alpha1
kind: ArtifactStore
metadata:
  name: {{ $store.name | quote }}
  namespace: {{ $namespace | quote }}
spec:
  {{- if $store.s3.bucket }}
  s3:
    {{- toYaml $store.s3 | nindent 4 }}
  {{- else }}
  persistentVolumeClaim:
    claimName: {{ include "slipway.storeClaim" . | quote }}
    {{- with $store.claim.subPath }}
    subPath: {{ . | quote }}
    {{- end }}
  {{- end }}
{{- end -}}
{{- end -}}
