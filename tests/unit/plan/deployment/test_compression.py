"""The order of steps by the state of the model, and parameters by their plugin's schema."""

from __future__ import annotations

import pytest

from slipway.api.artifacts import State
from slipway.api.errors import SpecError
from slipway.api.kinds import JOB
from slipway.api.modeldeployment import CompressionStep
from slipway.plan.deployment.compression import Offer, order_plugins, plugins_in
from slipway.plan.deployment.params import check_params
from slipway.plan.observation import Snapshot
from slipway.plan.references import NotYet
from support.builders import SETTINGS, export_plugin, plugin, plugins, prune_plugin, quantize_plugin
from support.deployments import DIGITS, world_with

PRUNE = ("prune-structured", {"ratio": 0.5})
QUANTIZE = ("quantize-int8", {})


def planned(*steps, state=State.MODULE, offered=None, has_data=True, conversion=None):
    wanted = tuple(CompressionStep(plugin=name, params=params) for name, params in steps)
    known = plugins_in(Snapshot(plugins() if offered is None else offered))
    offer = Offer(known, conversion, SETTINGS.runtime_image)
    return order_plugins(wanted, state, offer, has_data=has_data)


def roles(*steps, **options):
    return [step.role for step in planned(*steps, **options)]


@pytest.mark.parametrize(
    ("steps", "state", "expected"),
    [
        ([], State.MODULE, ["convert"]),
        ([], State.ONNX, []),
        ([PRUNE], State.MODULE, ["step-0-prune-structured", "convert"]),
        ([QUANTIZE], State.ONNX, ["step-0-quantize-int8"]),
        ([QUANTIZE], State.MODULE, ["convert", "step-0-quantize-int8"]),
        ([PRUNE, QUANTIZE], State.MODULE, ["step-0-prune-structured", "convert", "step-1-quantize-int8"]),
        (
            [PRUNE, PRUNE, QUANTIZE],
            State.MODULE,
            ["step-0-prune-structured", "step-1-prune-structured", "convert", "step-2-quantize-int8"],
        ),
    ],
)
def test_conversions_stand_where_one_result_is_not_the_next_input(steps, state, expected):
    assert roles(*steps, state=state) == expected


def test_a_step_that_converts_by_itself_is_followed_by_no_conversion():
    assert roles(("export-onnx", {}), QUANTIZE) == ["step-0-export-onnx", "step-1-quantize-int8"]


def test_a_conversion_is_found_by_the_states_it_takes_and_gives():
    offered = [
        quantize_plugin(),
        plugin("to-onnx.v2", "module", "onnx", entryPoint="to-onnx", conversion=True, version="7"),
    ]
    assert planned(QUANTIZE, offered=offered)[0].label == "conversion to onnx (to-onnx.v2 7)"


def test_a_plugin_with_dots_in_its_name_gives_a_task_name_without():
    offered = [plugin("acme.prune", "module", "module", entryPoint="prune"), export_plugin()]
    assert roles(("acme.prune", {}), offered=offered) == ["step-0-acme-prune", "convert"]


def refused(*steps, **options):
    with pytest.raises(SpecError) as caught:
        planned(*steps, **options)
    return caught.value


def test_an_onnx_model_cannot_become_a_module_again():
    error = refused(QUANTIZE, PRUNE)
    assert error.reason == "IllegalOrder"
    assert str(error) == (
        "spec.compression.steps[1]: prune-structured takes a model of state module, and quantize-int8"
        " (spec.compression.steps[0]) gives onnx; put prune-structured before quantize-int8 (spec.compression.steps[0])"
    )


def test_a_model_that_is_onnx_from_the_start_rules_out_module_steps():
    error = refused(PRUNE, state=State.ONNX)
    assert (error.reason, error.field) == ("IllegalOrder", "spec.compression.steps[0]")
    assert "the model gives onnx" in str(error)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (
            {"ratio": 2},
            "spec.compression.steps[1].params.ratio: 2 is greater than or equal to the maximum of 1",
        ),
        ({"ratio": "much"}, "spec.compression.steps[1].params.ratio: 'much' is not of type 'number'"),
        ({}, "spec.compression.steps[1].params.ratio: is required"),
        (
            {"ratio": 0.5, "rate": 1},
            "spec.compression.steps[1].params.rate: is not a parameter; parameters are: ratio, recover",
        ),
        (
            {"ratio": 0.5, "recover": {"epochs": 0}},
            "spec.compression.steps[1].params.recover.epochs: 0 is less than the minimum of 1",
        ),
    ],
)
def test_a_wrong_parameter_is_named_by_its_path(params, message):
    error = refused(PRUNE, ("prune-structured", params))
    assert error.reason == "InvalidParams"
    assert f"{error.field}: {error.problem}" == message
    assert "CompressionPlugin prune-structured" in error.cure


def test_an_item_of_a_list_is_named_by_its_index():
    schema = {"properties": {"layers": {"items": {"type": "string"}}}}
    with pytest.raises(SpecError) as caught:
        check_params("params", "x", {"layers": ["a", 1]}, schema)
    assert caught.value.field == "params.layers[1]"


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "nothing"},
        {"properties": {"ratio": {"$ref": "https://example.org/other.json"}}},
        {"properties": {"ratio": {"$ref": "file:///etc/hostname"}}},
    ],
)
def test_a_schema_that_cannot_be_used_is_the_plugins_fault_and_reaches_nothing_outside(schema, monkeypatch):
    def outside(*args, **options):
        raise AssertionError("a planner does no I/O")

    monkeypatch.setattr("urllib.request.urlopen", outside)
    error = refused(("prune-structured", {"ratio": 0.5}), offered=[prune_plugin(parameters=schema), export_plugin()])
    assert error.reason == "PluginInvalid"


def test_a_plugin_that_needs_data_is_refused_where_nobody_names_any():
    error = refused(PRUNE, has_data=False)
    assert (error.reason, error.field) == ("DataMissing", "spec.compression.data")
    assert "spec.compression.steps[0] (prune-structured) needs data" in str(error)


def test_a_plugin_whose_object_cannot_be_read_is_named():
    broken = prune_plugin()
    del broken["spec"]["consumes"]
    error = refused(PRUNE, offered=[broken, export_plugin()])
    assert (error.reason, error.field) == ("PluginInvalid", "spec.compression.steps[0].plugin")


def test_a_missing_plugin_is_waited_for_but_only_where_all_else_is_good():
    with pytest.raises(NotYet) as caught:
        planned(PRUNE, ("distil", {}))
    assert caught.value.reason == "PluginNotFound"
    assert '"distil"' in caught.value.message
    assert refused(("prune-structured", {}), ("distil", {})).reason == "InvalidParams"


def test_a_missing_conversion_is_waited_for():
    with pytest.raises(NotYet) as caught:
        planned(PRUNE, offered=[prune_plugin()])
    assert caught.value.reason == "PluginNotFound"
    assert "converts a model of state module to onnx" in caught.value.message


def another(name, **spec):
    """A conversion of a third party."""
    return plugin(name, "module", "onnx", **{"conversion": True, "image": "third.example/party:1", **spec})


@pytest.mark.parametrize(
    ("offered", "conversion", "chosen"),
    [
        ([export_plugin(), another("aaa")], None, "export-onnx"),
        ([export_plugin(), another("aaa", image=None)], None, "export-onnx"),
        ([export_plugin(), another("aaa"), another("zzz")], None, "export-onnx"),
        ([plugin("mine", "module", "onnx", conversion=True), another("aaa")], None, "mine"),
        ([plugin("mine", "module", "onnx", conversion=True, image=SETTINGS.runtime_image)], None, "mine"),
        ([export_plugin(), another("aaa")], "aaa", "aaa"),
        ([another("aaa")], "aaa", "aaa"),
    ],
)
def test_the_operators_own_conversion_is_used_unless_the_spec_names_another(offered, conversion, chosen):
    step = planned(offered=offered, conversion=conversion)[0]
    assert (step.conversion, step.plugin.entry_point) == (True, chosen)


@pytest.mark.parametrize(
    ("offered", "conversion", "said"),
    [
        (
            [another("aaa")],
            None,
            "is missing, and only plugins of other images convert a model of state module to onnx: aaa",
        ),
        ([another("aaa"), another("bbb")], None, "only plugins of other images convert"),
        ([export_plugin(image="third.example/party:1")], None, "only plugins of other images convert"),
        (
            [plugin("a", "module", "onnx", conversion=True), plugin("b", "module", "onnx", conversion=True)],
            None,
            "several of the operator's own image convert a model of state module to onnx: a, b",
        ),
        ([export_plugin(), quantize_plugin()], "quantize-int8", "CompressionPlugin quantize-int8 is no conversion"),
        ([export_plugin(), another("aaa", conversion=False)], "aaa", "name one of: export-onnx"),
    ],
)
def test_a_conversion_that_nobody_chose_is_never_the_baselines(offered, conversion, said):
    with pytest.raises(SpecError) as refused:
        planned(offered=offered, conversion=conversion)
    assert refused.value.reason == "ConversionNotChosen"
    assert refused.value.field == "spec.compression.conversion"
    assert said in str(refused.value)


def test_a_conversion_that_is_named_before_it_is_there_is_waited_for():
    with pytest.raises(NotYet, match='no CompressionPlugin "later"'):
        planned(offered=[export_plugin()], conversion="later")


def test_a_third_partys_plugin_takes_no_baseline_of_anybody_by_its_name():
    world = world_with(another("aaa", image="evil.example/aaa:1"))
    world.run(DIGITS)
    jobs = [obj for key, obj in world.objects.items() if key.kind == JOB]
    images = {obj["spec"]["template"]["spec"]["containers"][0]["image"] for obj in jobs}
    assert jobs
    assert images == {SETTINGS.runtime_image}
    assert world.status(DIGITS)["phase"] == "Ready"


def test_another_conversion_makes_another_revision_also_without_steps():
    world = world_with(another("aaa"), steps=(), evaluation=None)
    world.run(DIGITS)
    first = world.status(DIGITS)["serving"]
    world.edit(DIGITS, lambda spec: spec.update(compression={"conversion": "aaa"}))
    world.run(DIGITS)
    status = world.status(DIGITS)
    assert (status["phase"], status["serving"] != first) == ("Ready", True)
