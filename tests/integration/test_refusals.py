"""What the API server refuses: every constraint of every kind broken once, beside a valid neighbour it accepts."""

from __future__ import annotations

from typing import Any

import pytest

from slipway.api.crds import RESOURCES, root_schema
from slipway.api.schema import walk
from support.apiserver import ApiServer
from support.full_objects import NAMESPACE, OTHER_DIGEST, full_objects, training_jobs
from support.places import Json, with_value, without
from support.refusals import RESOURCE_OF, Case, generated_cases, unset
from support.rule_cases import PAIRS, messages, rule_cases

RECIPE = training_jobs()[0]["spec"]["entrypoint"]
APPLY = "application/apply-patch+yaml"
STRICT = {"dryRun": "All", "fieldValidation": "Strict"}


@pytest.fixture(scope="module")
def stored(apiserver: ApiServer) -> dict[str, Json]:
    """One object of each kind as the server keeps it, for what is only asked of a change."""
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    apiserver.must("POST", "/api/v1/namespaces", body)
    return {kind: apiserver.must("POST", collection(kind), objects[0]) for kind, objects in full_objects().items()}


def test_no_field_escapes():
    assert unset() == [], "give these fields a value in tests/support/full_objects.py"


def test_every_rule_is_broken_and_kept():
    assert set(PAIRS) == messages()


@pytest.mark.parametrize("case", [*generated_cases(), *rule_cases()], ids=str)
def test_the_server_refuses_it_by_name_and_takes_its_neighbour(
    apiserver: ApiServer, stored: dict[str, Json], case: Case
):
    status, refusal = sent(apiserver, stored, case, case.broken)
    assert status in (400, 422), f"accepted: {case}"
    assert case.message in refusal["message"]
    if case.field:
        causes = refusal["details"]["causes"]
        assert case.field in [cause["field"] for cause in causes], causes
    status, answer = sent(apiserver, stored, case, case.good)
    assert status < 300, answer["message"]


# What each field that must keep its value is changed to; None removes it.
FIXED: dict[str, dict[str, list[Any]]] = {
    "TrainingJob": {
        "image": ["team/other:1"],
        "entrypoint": [
            with_value(RECIPE, ("recipe", "optimizer", "args", "lr"), 0.01),
            with_value(RECIPE, ("recipe", "model", "args", "layers", 1), 64),
            with_value(RECIPE, ("recipe", "model", "args", "more"), {}),
            {"module": {"name": "other"}},
        ],
        "processesPerNode": [1, None],
        "pools": [["h100"], []],
        "resources": [{"cpu": "3", "memory": "4Gi"}],
        "data": [[{"name": "train", "dataset": "digits", "split": "test"}]],
        "store": ["other"],
        "egress": ["open"],
        "podTemplate": [{"labels": {"team": "other"}}, None],
    },
    "ModelDeployment": {},
    "ArtifactStore": {
        "persistentVolumeClaim": [{"claimName": "other"}, {"claimName": "models"}],
        "s3": [{"bucket": "other", "secretRef": {"name": "store"}}],
        "heldOut": [False],
    },
    "GPUPool": {},
    "CompressionPlugin": {},
    "Step": {
        "role": ["other"],
        "digest": [OTHER_DIGEST],
        "image": ["team/other:1"],
        "store": ["other"],
        "heldOut": ["other", None],
        "folder": ["steps/other"],
    },
}


def test_every_rule_on_changes_has_a_case():
    for resource in RESOURCES:
        asked = [rule["fieldPath"] for node in walk(root_schema(resource)) for rule in on_changes(node.schema)]
        assert sorted(asked) == sorted(f".{name}" for name in FIXED[resource.kind.kind])


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [(kind, field, value) for kind, fields in FIXED.items() for field, values in fields.items() for value in values],
)
def test_a_fixed_field_keeps_its_value(
    apiserver: ApiServer, stored: dict[str, Json], kind: str, field: str, value: Any
):
    old = stored[kind]
    new = without(old, ("spec", field)) if value is None else with_value(old, ("spec", field), value)
    status, refusal = apiserver.request("PUT", path_of(new), new, **STRICT)
    assert status == 422
    assert f"spec.{field}" in [cause["field"] for cause in refusal["details"]["causes"]]
    assert f"{field} is immutable; to change it, delete the resource" in refusal["message"]


def test_a_store_does_not_move_to_another_bucket_nor_to_a_claim(apiserver: ApiServer, stored: dict[str, Json]):
    named = with_value(full_objects()["ArtifactStore"][1], ("metadata", "name"), "bucket")
    old = apiserver.must("PATCH", path_of(named), named, content_type=APPLY, fieldManager="test")
    for new in (
        with_value(old, ("spec", "s3", "bucket"), "other"),
        with_value(old, ("spec", "s3", "secretRef", "name"), "other"),
        without(old, ("spec", "s3", "prefix")),
        with_value(old, ("spec",), {"persistentVolumeClaim": {"claimName": "models"}}),
    ):
        status, refusal = apiserver.request("PUT", path_of(new), new, **STRICT)
        assert status == 422
        assert "spec.s3" in [cause["field"] for cause in refusal["details"]["causes"]]


@pytest.mark.parametrize("image", ["team/other:1", None])
def test_an_image_given_at_first_stays(apiserver: ApiServer, stored: dict[str, Json], image: str | None):
    named = with_value(training_jobs()[1], ("metadata", "name"), "scripted")
    old = apiserver.must("PATCH", path_of(named), named, content_type=APPLY, fieldManager="test")
    new = without(old, ("spec", "image")) if image is None else with_value(old, ("spec", "image"), image)
    status, refusal = apiserver.request("PUT", path_of(new), new, **STRICT)
    assert (status, [cause["field"] for cause in refusal["details"]["causes"]]) == (422, ["spec.image"])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("nodes", 3),
        ("suspend", True),
        ("restarts", {"max": 9}),
        ("activeDeadline", "1h"),
        ("activeDeadline", None),
        ("ttlAfterFinished", "1d"),
    ],
)
def test_the_rest_of_a_training_job_may_change(apiserver: ApiServer, stored: dict[str, Json], field: str, value: Any):
    old = stored["TrainingJob"]
    new = without(old, ("spec", field)) if value is None else with_value(old, ("spec", field), value)
    apiserver.must("PUT", path_of(new), new, **STRICT)


def test_an_edit_of_what_defaults_filled_in_is_an_edit(apiserver: ApiServer, stored: dict[str, Json]):
    """An object applied again as its user wrote it changes nothing, although the server filled in defaults."""
    short = {
        "apiVersion": "slipway.dev/v1alpha1",
        "kind": "TrainingJob",
        "metadata": {"name": "short", "namespace": NAMESPACE},
        "spec": {"entrypoint": {"module": {"name": "team.train"}}},
    }
    first = apiserver.must("POST", collection("TrainingJob"), short)
    version = first["metadata"]["resourceVersion"]
    again = apiserver.must("PUT", path_of(short), with_value(short, ("metadata", "resourceVersion"), version), **STRICT)
    assert again["metadata"]["generation"] == 1
    changed = with_value(first, ("spec", "podTemplate"), {"labels": {"team": "vision"}})
    assert apiserver.request("PUT", path_of(changed), changed, **STRICT)[0] == 422


@pytest.mark.parametrize("kind", list(full_objects()))
def test_every_full_object_is_accepted(apiserver: ApiServer, stored: dict[str, Json], kind: str):
    for full in full_objects()[kind]:
        apiserver.must("POST", collection(kind), renamed(full), **STRICT)


def on_changes(schema: Json) -> list[Json]:
    return [rule for rule in schema.get("x-kubernetes-validations", ()) if "oldSelf" in rule["rule"]]


def sent(apiserver: ApiServer, stored: dict[str, Json], case: Case, obj: Json) -> tuple[int, Json]:
    """A create, or for a place in the status an update of the stored object's status."""
    if not case.path.startswith("status"):
        return apiserver.request("POST", collection(case.kind), renamed(obj), **STRICT)
    old = stored[case.kind]
    new = {key: value for key, value in {**old, "status": obj.get("status")}.items() if value is not None}
    return apiserver.request("PUT", f"{path_of(old)}/status", new, **STRICT)


def renamed(obj: Json) -> Json:
    """Beside the stored object of the same kind."""
    name = obj["metadata"]["name"]
    return with_value(obj, ("metadata", "name"), "other" if name == "full" else name)


def collection(kind: str) -> str:
    resource = RESOURCE_OF[kind].kind
    namespace = f"/namespaces/{NAMESPACE}" if resource.namespaced else ""
    return f"/apis/{resource.api_version}{namespace}/{resource.plural}"


def path_of(obj: Json) -> str:
    return f"{collection(obj['kind'])}/{obj['metadata']['name']}"
