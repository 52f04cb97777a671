"""Container images made of folders alone, as a docker-archive for `ctr images import`."""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

PAUSE = "slipway.local/pause:dev"
_USER = "65532"
_PATH = "/opt/slipway/venv/bin:/opt/slipway/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_ENVIRONMENT = {"PATH": _PATH, "PYTHONDONTWRITEBYTECODE": "1", "HOME": "/tmp"}
# Debian's links from the root into /usr, which is mounted; a mount point must exist in a read-only root.
_LINKS = {"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64"}
_FOLDERS = (
    "usr",
    "opt",
    "opt/slipway",
    "etc",
    "etc/ssl",
    "etc/alternatives",
    "proc",
    "sys",
    "dev",
    "run",
    "var",
    "mnt",
)
_FILES = {
    "etc/ld.so.cache": "",
    "etc/passwd": f"root:x:0:0:root:/root:/bin/sh\nnonroot:x:{_USER}:{_USER}:nonroot:/tmp:/usr/sbin/nologin\n",
    "etc/group": f"root:x:0:\nnonroot:x:{_USER}:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}


@dataclass(frozen=True)
class Image:
    """What an image adds to its one layer."""

    name: str
    layer: bytes = field(repr=False)
    user: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    entrypoint: tuple[str, ...] = ()


def pod_images() -> list[Image]:
    """The operator's and the runtime's images run as a user of their own; Triton's leaves that to the pod."""
    layer = _layer(_skeleton())
    return [
        Image("slipway.local/operator:dev", layer, user=_USER, environment=_ENVIRONMENT),
        Image("slipway.local/runtime:dev", layer, user=_USER, environment=_ENVIRONMENT),
        Image("slipway.local/serving:dev", layer, environment=_ENVIRONMENT),
    ]


def pause_image(program: Path) -> Image:
    """Holds a pod's namespaces."""
    entry = tarfile.TarInfo("pause")
    entry.mode = 0o755
    content = program.read_bytes()
    entry.size = len(content)
    return Image(PAUSE, _layer([(entry, content)]), user=_USER, entrypoint=("/pause",))


def write_archive(images: Iterable[Image], output: Path) -> None:
    """One docker-archive of all images (the format of `docker save`)."""
    files: dict[str, bytes] = {}
    manifest = []
    for image in images:
        layer = f"{hashlib.sha256(image.layer).hexdigest()}.tar"
        config = json.dumps(_config(image)).encode()
        config_name = f"{hashlib.sha256(config).hexdigest()}.json"
        files |= {layer: image.layer, config_name: config}
        manifest.append({"Config": config_name, "RepoTags": [image.name], "Layers": [layer]})
    files["manifest.json"] = json.dumps(manifest).encode()
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_bytes(_layer([(_file(name, content), content) for name, content in files.items()]))


def _config(image: Image) -> dict[str, object]:
    process = {
        "User": image.user,
        "Env": [f"{name}={value}" for name, value in image.environment.items()],
        "Entrypoint": list(image.entrypoint),
    }
    digest = f"sha256:{hashlib.sha256(image.layer).hexdigest()}"
    return {
        "architecture": "amd64",
        "os": "linux",
        "config": process,
        "rootfs": {"type": "layers", "diff_ids": [digest]},
    }


def _skeleton() -> list[tuple[tarfile.TarInfo, bytes]]:
    entries = [(_folder(name), b"") for name in _FOLDERS]
    entries += [(_folder("tmp", 0o1777), b""), (_folder("var/tmp", 0o1777), b"")]
    for name, target in _LINKS.items():
        link = tarfile.TarInfo(name)
        link.type, link.linkname = tarfile.SYMTYPE, target
        entries.append((link, b""))
    entries += [(_file(name, text.encode()), text.encode()) for name, text in _FILES.items()]
    return entries


def _folder(name: str, mode: int = 0o755) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = tarfile.DIRTYPE, mode
    return entry


def _file(name: str, content: bytes) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    return entry


def _layer(entries: Iterable[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as tar:
        for entry, content in entries:
            tar.addfile(entry, io.BytesIO(content))
    return output.getvalue()
