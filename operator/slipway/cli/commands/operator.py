"""`slipway operator`: run the operator, as its Deployment does in a cluster."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class LogFormat(StrEnum):
    JSON = "json"
    CONSOLE = "console"


def operator(
    runtime_image: Annotated[
        str,
        typer.Option(
            "--runtime-image", envvar="SLIPWAY_RUNTIME_IMAGE", help="Image for training, steps and evaluation."
        ),
    ],
    serving_image: Annotated[
        str,
        typer.Option("--serving-image", envvar="SLIPWAY_SERVING_IMAGE", help="Image for serving, with tritonserver."),
    ],
    image_pull_policy: Annotated[
        str,
        typer.Option(
            "--image-pull-policy",
            envvar="SLIPWAY_IMAGE_PULL_POLICY",
            help="Pull policy of both images: Always, IfNotPresent or Never.",
        ),
    ] = "IfNotPresent",
    image_mirror: Annotated[
        list[str] | None,
        typer.Option(
            "--image-mirror",
            envvar="SLIPWAY_IMAGE_MIRRORS",
            help="Registry that an admission webhook puts before image names of pods. Repeatable.",
        ),
    ] = None,
    namespace: Annotated[
        list[str] | None,
        typer.Option("--namespace", "-n", help="Namespace to serve. Repeatable. Default: all namespaces."),
    ] = None,
    workers: Annotated[
        int, typer.Option(min=1, max=256, help="Number of resources that are reconciled at the same time.")
    ] = 8,
    leader_election: Annotated[
        bool,
        typer.Option(
            "--leader-election/--no-leader-election",
            help="Elect one leader by a Lease. Without it, run one process only.",
        ),
    ] = True,
    lease_namespace: Annotated[
        str | None, typer.Option(help="Namespace of the Lease. Default: the pod's namespace.")
    ] = None,
    lease_name: Annotated[str, typer.Option(help="Name of the Lease.")] = "slipway-operator",
    identity: Annotated[
        str | None, typer.Option(help="Holder's name in the Lease. Default: pod or host name, and a random part.")
    ] = None,
    defaults: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            file_okay=False,
            help="Folder of manifests: CompressionPlugins to apply, and ArtifactStores to create if they are missing.",
        ),
    ] = None,
    metrics_port: Annotated[int, typer.Option(help="Port of /metrics.")] = 9090,
    health_port: Annotated[int, typer.Option(help="Port of /healthz and /readyz.")] = 8080,
    log_format: Annotated[
        LogFormat, typer.Option(help="Format of logs: JSON lines, or text in columns.")
    ] = LogFormat.JSON,
    log_level: Annotated[str, typer.Option(help="Least severe level of logs: debug, info, warning or error.")] = "info",
) -> None:
    """Run the operator, for the cluster of KUBECONFIG or of the pod that it runs in.

    The Helm chart runs this command; run it yourself for development.

    \b
    Examples:
      slipway operator --runtime-image registry.example/runtime:1 --serving-image registry.example/serving:1
      slipway operator -n team-a -n team-b --no-leader-election --log-format console      images from the environment
    """
    from slipway.controller.operator import Options, own_identity, own_namespace, run_operator
    from slipway.plan.plan import Settings

    raise typer.Exit(
        run_operator(
            Options(
                Settings(runtime_image, serving_image, image_pull_policy, tuple(image_mirror or ())),
                namespaces=tuple(namespace or ()),
                workers=workers,
                elect=leader_election,
                lease_namespace=lease_namespace or own_namespace(),
                lease_name=lease_name,
                identity=identity or own_identity(),
                metrics_port=metrics_port,
                health_port=health_port,
                log_format=log_format.value,
                log_level=log_level,
                defaults=defaults,
            )
        )
    )
