"""`slipway operator`: the process that runs in the cluster."""

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
        typer.Option("--runtime-image", envvar="SLIPWAY_RUNTIME_IMAGE", help="Image of training, steps, evaluation."),
    ],
    serving_image: Annotated[
        str, typer.Option("--serving-image", envvar="SLIPWAY_SERVING_IMAGE", help="Image with tritonserver.")
    ],
    image_pull_policy: Annotated[
        str, typer.Option("--image-pull-policy", envvar="SLIPWAY_IMAGE_PULL_POLICY", help="Pull policy of both images.")
    ] = "IfNotPresent",
    image_mirror: Annotated[
        list[str] | None,
        typer.Option(
            "--image-mirror",
            envvar="SLIPWAY_IMAGE_MIRRORS",
            help="Registry that an admission webhook puts before the images of pods; may be repeated.",
        ),
    ] = None,
    namespace: Annotated[
        list[str] | None, typer.Option("--namespace", "-n", help="Namespace to serve; may be repeated. Default: all.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=256, help="Resources reconciled at the same time.")] = 8,
    leader_election: Annotated[
        bool, typer.Option("--leader-election/--no-leader-election", help="Without it, run one process only.")
    ] = True,
    lease_namespace: Annotated[
        str | None, typer.Option(help="Where the Lease is kept. Default: the pod's namespace.")
    ] = None,
    lease_name: Annotated[str, typer.Option(help="Name of the Lease.")] = "slipway-operator",
    identity: Annotated[
        str | None, typer.Option(help="Who holds the Lease. Default: pod or host name, and a random part.")
    ] = None,
    defaults: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            file_okay=False,
            help="Folder of CompressionPlugins, which stay applied, and of ArtifactStores for namespaces without any.",
        ),
    ] = None,
    metrics_port: Annotated[int, typer.Option(help="Port of /metrics.")] = 9090,
    health_port: Annotated[int, typer.Option(help="Port of /healthz and /readyz.")] = 8080,
    log_format: Annotated[LogFormat, typer.Option(help="JSON lines, or columns for people.")] = LogFormat.JSON,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
) -> None:
    """Run the operator against the cluster of KUBECONFIG, or the one that this pod is in.

    \b
    Examples:
      slipway operator --runtime-image registry.example/runtime:1 --serving-image registry.example/serving:1
      slipway operator -n team-a -n team-b --no-leader-election --log-format console      the images by environment
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
