"""`slipway plan`: preview the objects that the operator would create for manifests, and why."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from slipway.cli.commands.options import Context, Files, Namespace, Recursive
from slipway.cli.rendering.terminal import one_line, say

if TYPE_CHECKING:
    from slipway.manifests import Manifests
    from slipway.preview.plan_preview import PlanPreview


class Shape(StrEnum):
    """Formats of a printed plan."""

    TEXT = "text"
    YAML = "yaml"
    JSON = "json"


def plan(
    files: Files,
    *,
    recursive: Recursive = False,
    namespace: Namespace = None,
    live: Annotated[
        bool,
        typer.Option(
            "--live", help="Start from the objects of the cluster, and show what would change. Writes nothing."
        ),
    ] = False,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="With --live: exit code 6 if anything would change.")
    ] = False,
    output: Annotated[
        Shape, typer.Option("--output", "-o", help="A few lines for each resource, or the objects as YAML or JSON.")
    ] = Shape.TEXT,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show every step and object with its reason.")
    ] = False,
    runtime_image: Annotated[
        str | None,
        typer.Option(
            "--runtime-image",
            metavar="IMAGE",
            help="Runtime image of the operator. Default: with --live, that of the cluster's operator.",
        ),
    ] = None,
    serving_image: Annotated[
        str | None,
        typer.Option(
            "--serving-image",
            metavar="IMAGE",
            help="Serving image of the operator. Default: with --live, that of the cluster's operator.",
        ),
    ] = None,
    context: Context = None,
) -> None:
    """Preview what the operator would create for manifests, without creating it.

    The operator's own planners run on the files, and every pod counts as successful. The output shows for each resource
    what it reuses, what it creates and what it serves; --verbose shows every step with its reason: the pool, the
    conversions, and what waits for what. Values that are unknown before, such as UIDs and digests of results, are names
    in angle brackets.

    With --live the plan starts from the objects of the cluster, and shows what would be created, changed and deleted.
    Resources of the files that are in progress there, such as a training, are planned to their end as well.

    All errors of all files are shown at once, by file, line and field. Exit code 1 if a resource would end Stalled, or
    would wait for ever.

    \b
    Examples:
      slipway plan -f training.yaml -f deployment.yaml -f store.yaml
      slipway plan -f training.yaml -f store.yaml -v     each step and object, and why
      slipway plan -f manifests/ -R -o yaml
      slipway plan -f overlays/prod                      a kustomization, as kubectl builds it
      slipway plan -f manifests/ --live --exit-code      in CI: 0 nothing changes, 6 something does, 1 it would fail
    """
    import asyncio

    from slipway.cli.rendering.errors import CHANGES, FAILED

    if not live and (exit_code or context is not None):
        raise typer.BadParameter("--exit-code and --context need --live")
    if verbose and output is not Shape.TEXT:
        raise typer.BadParameter("--verbose is for text: YAML and JSON show everything")
    preview, manifests = asyncio.run(
        _plan(files, recursive, namespace, context, (runtime_image, serving_image), live=live)
    )
    from slipway.cli.rendering.plan import plan_errors, show

    for warning in manifests.warnings:
        say(f"warning: {one_line(str(warning))}", err=True)
    show(preview, manifests, output, live=live, verbose=verbose)
    for line in plan_errors(preview, manifests, live=live):
        say(f"error: {one_line(line)}", err=True)
    if not preview.good:
        raise typer.Exit(FAILED)
    raise typer.Exit(CHANGES if exit_code and preview.differs else 0)


async def _plan(
    files: list[str],
    recursive: bool,
    namespace: str | None,
    context: str | None,
    images: tuple[str | None, str | None],
    *,
    live: bool,
) -> tuple[PlanPreview, Manifests]:
    from datetime import UTC, datetime

    from slipway.manifests import read_manifests
    from slipway.plan.plan import Settings
    from slipway.preview.plan_preview import preview_plan
    from slipway.reconcile.planners import PLANNERS

    if not live:
        manifests = read_manifests(files, namespace=namespace, recursive=recursive)
        settings = Settings(images[0] or "<runtime-image>", images[1] or "<serving-image>")
        start = datetime(2000, 1, 1, tzinfo=UTC)  # any: what is planned is the same on every day
        preview = await preview_plan(manifests.objects, (), PLANNERS, settings, start, _shipped(manifests))
        return preview, manifests
    from slipway.cli.connections.cluster import connect_to_cluster
    from slipway.cli.connections.resources import list_planner_inputs, planner_settings
    from slipway.cluster.port import ReadOnly

    async with connect_to_cluster(context, namespace) as connection:
        own = connection.namespace
        manifests = read_manifests(files, namespace=namespace, default_namespace=own, recursive=recursive)
        cluster = ReadOnly(connection.cluster)
        namespaces = {obj["metadata"].get("namespace", own) for obj in manifests.objects}
        objects = await list_planner_inputs(cluster, sorted(namespaces))
        settings = await planner_settings(cluster, objects, images, namespaces)
    return await preview_plan(manifests.objects, objects, PLANNERS, settings, datetime.now(UTC)), manifests


def _shipped(manifests: Manifests) -> list[dict[str, object]]:
    """Return the plugins that the operator applies, except those that the files define."""
    from slipway.api.kinds import COMPRESSION_PLUGIN
    from slipway.local.admission import describe_installed_plugins

    own = {obj["metadata"]["name"] for obj in manifests.objects if obj["kind"] == COMPRESSION_PLUGIN.kind}
    shipped, _ = describe_installed_plugins()
    return [shipped[name] for name in sorted(shipped) if name not in own]
