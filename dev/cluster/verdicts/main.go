// What GitOps controllers read out of objects: Flux by kstatus, Argo CD by a health check in Lua.
//
// One question a line on stdin, {"object": ..., "health": "a Lua script"}; one answer a line on stdout.
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
	Object map[string]any `json:"object"`
	Health string         `json:"health"`
}

type verdict struct {
	Status  string `json:"status"`
	Message string `json:"message"`
}

type answer struct {
	Flux verdict  `json:"flux"`
	Argo *verdict `json:"argo,omitempty"`
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
	if asked.Health != "" {
		if given.Argo, err = health(object.Object, asked.Health); err != nil {
			return answer{}, err
		}
	}
	return given, nil
}
