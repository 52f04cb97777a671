{{/* Where the default store is made. Fails, by the value's name, on what the schema cannot refuse. */}}
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

{{/* The ArtifactStore of one namespace: (list $ namespace). */}}
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
