"""The task that a pod is given, read as plan/taskinput.py hands it over."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from slipway.api.tasks import FOLDER_ENV, TASK_DIR, TASK_ENV, TASK_FILE, Task, is_task_digest, parse_task, task_digest


def read_task(environment: Mapping[str, str]) -> Task:
    """Raises ValueError for a pod without a task, for a file of another digest, and for what is no task."""
    if not (text := environment.get(TASK_ENV)):
        raise ValueError(f"{TASK_ENV} is not set: the operator writes a task there as JSON")
    if is_task_digest(text):
        text = _read_file(Path(environment.get(FOLDER_ENV[TASK_DIR], TASK_DIR)) / TASK_FILE, text)
    try:
        return parse_task(text)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise ValueError(
            f"{TASK_ENV} is no task that this image knows ({wrong}); operator and image must be of one version"
        ) from error


def _read_file(path: Path, digest: str) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{TASK_ENV} names the digest of a task that cannot be read: {error}") from error
    if task_digest(content) != digest:
        problem = f"is not the one that {TASK_ENV} names by its digest"
        raise ValueError(f"the task in {path} {problem}; do not edit the annotations of the pod")
    return content.decode()
