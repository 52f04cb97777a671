"""The models refuse the same objects as the API server, which tests/integration/test_refusals.py compares."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from slipway.api.reading import read_written
from support.places import Json
from support.refusals import RESOURCE_OF, Case, generated_cases
from support.rule_cases import rule_cases

# The models leave names and metadata to the server.
VALIDATED = [case for case in (*generated_cases(), *rule_cases()) if case.field != "metadata.name"]


@pytest.mark.parametrize("case", VALIDATED, ids=str)
def test_the_model_refuses_it_and_takes_its_neighbour(case: Case):
    read(case, case.good)
    with pytest.raises(ValidationError):
        read(case, case.broken)


def read(case: Case, obj: Json) -> None:
    text = json.dumps({key: value for key, value in obj.items() if key not in ("apiVersion", "kind", "metadata")})
    read_written(RESOURCE_OF[case.kind].model, text)
