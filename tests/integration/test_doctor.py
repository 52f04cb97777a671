"""`slipway doctor` on a real API server, as an account with few rights; and its list of rights against the chart's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from slipway.cli.main import app
from slipway.doctor.permissions import OPERATES
from support.accounts import Account
from support.apiserver import ApiServer
from support.chart import granted, rendered, roles_of_the_operator

NAMESPACE = "doctor"


def test_the_rights_that_the_operator_is_asked_about_are_those_that_the_chart_grants() -> None:
    defaults = {("slipway.dev", "compressionplugins"): {"get", "create", "patch"}}  # it keeps the shipped ones applied
    chart: dict[tuple[str, str], set[str]] = {}
    for role in roles_of_the_operator(rendered()):
        for what, verbs in granted(role).items():
            if what[1] != "leases":  # of its own namespace; the Lease tells whether it may
                chart.setdefault(what, set()).update(verbs - defaults.get(what, set()))
    asked: dict[tuple[str, str], set[str]] = {}
    for right in OPERATES:
        asked.setdefault((right.group, right.resource), set()).add(right.verb)
    assert asked == chart


def test_an_account_without_rights_is_told_which_it_lacks(
    apiserver: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    apiserver.must("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
    account = Account(NAMESPACE, "poor")
    monkeypatch.setenv("KUBECONFIG", str(account.kubeconfig(apiserver, tmp_path / "poor")))
    result = CliRunner().invoke(app, ["doctor", "-n", NAMESPACE, "-o", "json"])
    found = {one["check"]: one for one in json.loads(result.stdout)}
    assert result.exit_code == 1
    assert found["CRDs"]["level"] == "ok"
    assert found["your permissions"]["what"].startswith("you may not get trainingjobs.slipway.dev, list trainingjobs")
    assert {found[name]["level"] for name in ("operator", "DNS", "pools", "stores", "plugins")} == {"warn"}


def test_an_administrator_of_a_bare_cluster_is_told_what_to_install(
    apiserver: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = Account("default", "rich")
    account.make_administrator(apiserver)
    monkeypatch.setenv("KUBECONFIG", str(account.kubeconfig(apiserver, tmp_path / "rich")))
    result = CliRunner().invoke(app, ["doctor", "-o", "json"])
    found = {one["check"]: one for one in json.loads(result.stdout)}
    assert result.exit_code == 1
    assert found["CRDs"]["what"] == "6 kinds of slipway.dev/v1alpha1, with the fields of this version"
    assert found["operator"]["what"] == "the cluster has no Deployment of the chart"
    assert (found["your permissions"]["level"], found["DNS"]["level"]) == ("ok", "warn")
