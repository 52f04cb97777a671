"""Fixtures that several suites share."""

pytest_plugins = ("support.apiserver", "support.seaweed")
