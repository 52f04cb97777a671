"""buildah's commands, on a storage of our own: nothing is left among the machine's other images."""

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# A machine's own certificates and index of packages hold while an image is built, and are in none.
_HOST_FILES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pip.conf", "/etc/uv/uv.toml")


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

    def build(self, context: Path, target: str, arguments: Mapping[str, str], image: str) -> None:
        mounts = [f"--volume={file}:{file}:ro" for file in _HOST_FILES if Path(file).is_file()]
        given = [f"--build-arg={name}={value}" for name, value in arguments.items()]
        # chroot: no network bridge is left behind, and no daemon or runtime is needed.
        options = ["--isolation=chroot", "--pull-never", "--layers", *mounts, *given]
        self._run("build", *options, "--target", target, "--tag", image, str(context))

    def export(self, image: str, archive: Path) -> None:
        """Write the format of `docker save`, which `ctr images import` and `docker load` read."""
        self._run("push", "--quiet", image, f"docker-archive:{archive}:{image}")

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
