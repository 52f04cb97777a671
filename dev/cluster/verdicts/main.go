// What GitOps controllers read out of objects: Flux by kstatus or by expressions in CEL, Argo CD by a script in Lua.
//
// Questions on stdin, {"object": ..., "expressions": {"current": ...}, "health": "a Lua script"}, the last two optional;
// one answer a line on stdout.
package main

import (
	"encoding/json"
	"errors"
	"io"
	"log"
	"os"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

type question struct {
	Object      map[string]any `json:"object"`
	Expressions *expressions   `json:"expressions"`
	Health      string         `json:"health"`
}

type verdict struct {
	Status  string `json:"status"`
	Message string `json:"message"`
}

type answer struct {
	Flux        verdict  `json:"flux"`
	Expressions *verdict `json:"expressions,omitempty"`
	Argo        *verdict `json:"argo,omitempty"`
}

func main() {
	questions, answers := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var asked question
		if err := questions.Decode(&asked); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			log.Fatal(err)
		}
		given, err := judged(asked)
		if err != nil {
			log.Fatal(err)
		}
		if err := answers.Encode(given); err != nil {
			log.Fatal(err)
		}
	}
}

func judged(asked question) (answer, error) {
	// kstatus wants integers as the API machinery decodes them: int64, where encoding/json gives float64.
	text, err := json.Marshal(asked.Object)
	if err != nil {
		return answer{}, err
	}
	object := &unstructured.Unstructured{}
	if err := object.UnmarshalJSON(text); err != nil {
		return answer{}, err
	}
	result, err := status.Compute(object)
	if err != nil {
		return answer{}, err
	}
	given := answer{Flux: verdict{Status: result.Status.String(), Message: result.Message}}
	if asked.Expressions != nil {
		if given.Expressions, err = asked.Expressions.by(object); err != nil {
			return answer{}, err
		}
	}
	if asked.Health != "" {
		if given.Argo, err = health(object.Object, asked.Health); err != nil {
			return answer{}, err
		}
	}
	return given, nil
}
