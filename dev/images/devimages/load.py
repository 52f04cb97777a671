"""Puts images into the development cluster's containerd, by a pipe: no archive of gigabytes is written."""

import argparse
import subprocess
import time
from collections.abc import Sequence

from devcluster import paths
from devcluster.paths import State
from devimages.build import build, known, storage
from devimages.recipes import RECIPES


def main(arguments: Sequence[str] | None = None) -> int:
    """Build images where their content has changed, and import them into the development cluster."""
    parser = argparse.ArgumentParser(prog="load", description=main.__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(RECIPES)}; operator alone if none")
    named = known(parser.parse_args(arguments).targets, parser)
    socket = State(paths.default_state()).containerd_socket
    if not socket.exists():
        raise SystemExit("the development cluster does not run here: start it by dev/cluster/up")
    for target in named:
        started = time.monotonic()
        name = build(RECIPES[target])
        built = time.monotonic()
        ctr = ["ctr", f"--address={socket}", "--namespace=k8s.io", "images", "import", "-"]
        with storage().exporting(name) as stream:
            if subprocess.run(ctr, stdin=stream, stdout=subprocess.DEVNULL, check=False).returncode != 0:
                raise SystemExit(f"containerd took no {name}: its last lines say why")
        print(f"{name}: built in {built - started:.0f} s, in the cluster {time.monotonic() - built:.0f} s later")
    return 0
