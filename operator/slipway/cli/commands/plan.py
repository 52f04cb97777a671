"""`slipway plan`: what would be made of manifests, and why, without making it."""

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
        bool, typer.Option("--live", help="From what is in the cluster now: what would change. Nothing is written.")
    ] = False,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="With --live: exit code 6 where anything would change.")
    ] = False,
    output: Annotated[
        Shape, typer.Option("--output", "-o", help="A few lines a resource, or the objects as YAML or JSON.")
    ] = Shape.TEXT,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show each step and each object, with the reason for it.")
    ] = False,
    runtime_image: Annotated[
        str | None, typer.Option("--runtime-image", metavar="IMAGE", help="The operator's. Default: asked of --live.")
    ] = None,
    serving_image: Annotated[
        str | None, typer.Option("--serving-image", metavar="IMAGE", help="The operator's. Default: asked of --live.")
    ] = None,
    context: Context = None,
) -> None:
    """Show what would be made, without making it.

    The operator's own planners run on the files, and every pod is taken to succeed. Each resource gets a few lines:
    what it reuses, what it makes, and what serves. --verbose shows each step with its reason: which pool, which
    conversions, what waits for what. What is unknown before, as UIDs and digests of results, has a name in angle
    brackets.
    With --live the plan starts from what the cluster holds, and shows what would be made, changed and deleted. What
    the files name and is still under way there, as a training, is planned to its end as well.

    Every error in the files is shown at once, by file, line and field.

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
    """The plugins that the operator keeps applied, but for those that the files bring themselves."""
    from slipway.api.kinds import COMPRESSION_PLUGIN
    from slipway.local.admission import describe_installed_plugins

    own = {obj["metadata"]["name"] for obj in manifests.objects if obj["kind"] == COMPRESSION_PLUGIN.kind}
    shipped, _ = describe_installed_plugins()
    return [shipped[name] for name in sorted(shipped) if name not in own]
