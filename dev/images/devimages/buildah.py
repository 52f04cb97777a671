"""buildah's commands, on a storage of our own: nothing is left among the machine's other images."""

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

# A machine's own certificates and index of packages hold while an image is built, and are in none.
_HOST_FILES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pip.conf", "/etc/uv/uv.toml")

# The label of what decided an image.
_CONTENT = "slipway.dev/content"


@dataclass(frozen=True)
class Buildah:
    """root: the folder of images and layers."""

    root: Path

    def has(self, image: str) -> bool:
        command = self._command("inspect", "--type", "image", image)
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def import_files(self, archive: Path, image: str) -> None:
        """Make an image whose one layer is a tar of a root filesystem."""
        container = self._output("from", "scratch")
        try:
            self._run("add", "--quiet", container, str(archive), "/")
            self._run("commit", "--quiet", container, image)
        finally:
            self._run("rm", container)

    def content(self, image: str) -> str | None:
        """The digest that the image was built with; None where there is no such image."""
        command = self._command("inspect", "--type", "image", image)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            return None
        labels: dict[str, str] = json.loads(done.stdout)["OCIv1"]["config"].get("Labels") or {}
        return labels.get(_CONTENT)

    def build(
        self, context: Path, arguments: Mapping[str, str], image: str, *, target: str | None, content: str
    ) -> None:
        """content: kept with the image, see the method of that name."""
        mounts = [f"--volume={file}:{file}:ro" for file in _HOST_FILES if Path(file).is_file()]
        given = [f"--build-arg={name}={value}" for name, value in arguments.items()]
        # chroot: no network bridge is left behind, and no daemon or runtime is needed.
        options = ["--isolation=chroot", "--pull-never", "--layers", *mounts, *given]
        stage = [f"--target={target}"] if target else []
        self._run("build", *options, *stage, f"--label={_CONTENT}={content}", f"--tag={image}", str(context))

    def export(self, image: str, archive: Path) -> None:
        """Write the format of `docker save`, which `ctr images import` and `docker load` read."""
        self._run("push", "--quiet", image, f"docker-archive:{archive}:{image}")

    @contextmanager
    def exporting(self, image: str) -> Iterator[IO[bytes]]:
        """The same as a stream."""
        command = self._command("push", "--quiet", image, f"docker-archive:/dev/stdout:{image}")
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            yield cast("IO[bytes]", process.stdout)
        if process.returncode != 0:
            raise SystemExit("buildah push failed: its last lines say why")

    def _run(self, *arguments: str) -> None:
        if subprocess.run(self._command(*arguments), stdout=subprocess.DEVNULL, check=False).returncode != 0:
            raise SystemExit(f"buildah {arguments[0]} failed: its last lines say why")

    def _output(self, *arguments: str) -> str:
        done = subprocess.run(self._command(*arguments), stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(f"buildah {arguments[0]} failed: its last lines say why")
        return done.stdout.strip()

    def _command(self, *arguments: str) -> Sequence[str]:
        return ["buildah", f"--root={self.root / 'storage'}", f"--runroot={self.root / 'run'}", *arguments]
