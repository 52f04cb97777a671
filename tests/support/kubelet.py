"""How a kubelet starts a container, to the letter: what becomes of the texts of a pod on their way into a process."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slipway.api.tasks import FOLDER_ENV
from slipway.local.environment import expand_variables

MAX_STRING_BYTES = 128 * 1024
"""execve refuses a longer one with its NUL (MAX_ARG_STRLEN)."""
MAX_ANNOTATIONS_BYTES = 256 * 1024
"""The API server refuses more of one object, names included."""


def handed_over(template: Mapping[str, Any], folder: Path) -> tuple[list[str], dict[str, str]]:
    """Command and environment of the container that works; its files of the downward API are written to the folder.

    Raises AssertionError for a pod that could not be made or started. Variables by reference are left out.
    """
    annotations = template["metadata"].get("annotations", {})
    assert sum(len(text.encode()) for item in annotations.items() for text in item) <= MAX_ANNOTATIONS_BYTES
    main = next(one for one in template["spec"]["containers"] if one["name"] == "main")
    environment: dict[str, str] = {}
    for variable in main["env"]:
        if "value" in variable:
            environment[variable["name"]] = expand_variables(variable["value"], environment)
    volumes = {
        volume["name"]: volume["downwardAPI"] for volume in template["spec"]["volumes"] if "downwardAPI" in volume
    }
    for mount in main["volumeMounts"]:
        for item in volumes.get(mount["name"], {}).get("items", ()):
            key = item["fieldRef"]["fieldPath"].removeprefix("metadata.annotations['").removesuffix("']")
            (folder / item["path"]).write_text(annotations[key], encoding="utf-8")
            environment[FOLDER_ENV[mount["mountPath"]]] = str(folder)
    command = [expand_variables(word, environment) for word in main["command"]]
    for text in (*command, *(f"{name}={value}" for name, value in environment.items())):
        assert len(text.encode()) < MAX_STRING_BYTES
    return command, environment
