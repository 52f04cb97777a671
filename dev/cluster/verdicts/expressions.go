package main

import (
	"context"

	"github.com/fluxcd/pkg/apis/kustomize"
	"github.com/fluxcd/pkg/runtime/cel"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

type expressions struct {
	Current    string `json:"current"`
	Failed     string `json:"failed"`
	InProgress string `json:"inProgress"`
}

// by is Flux's verdict where the Kustomization has healthCheckExprs for the object's kind.
func (given expressions) by(object *unstructured.Unstructured) (*verdict, error) {
	evaluator, err := cel.NewStatusEvaluator(&kustomize.HealthCheckExpressions{
		Current: given.Current, Failed: given.Failed, InProgress: given.InProgress,
	})
	if err != nil {
		return nil, err
	}
	result, err := evaluator.Evaluate(context.Background(), object)
	if err != nil {
		return nil, err
	}
	return &verdict{Status: result.Status.String(), Message: result.Message}, nil
}
