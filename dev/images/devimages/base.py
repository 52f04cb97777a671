"""What images start from: Debian with its Python and certificates, made once by mmdebstrap."""

import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

SUITE = "bookworm"
# venv brings pip for the stages that build, as a wheel of 2 MB; nothing else of a build is in the base.
# RE2 is linked against libstdc++, which Python's own images have.
PYTHON = ("python3", "python3-venv", "ca-certificates", "libstdc++6")
# What Triton's python stub is linked against besides.
NATIVE = (*PYTHON, "libpython3.11")
# What nobody reads in a container; licences stay.
_DPKG = (
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/locale/*",
)


def digest(packages: Sequence[str]) -> str:
    """Changes with what the base is asked to hold. Debian's updates do not change it: delete the file for them."""
    return hashlib.sha256("\0".join(_command(packages)).encode()).hexdigest()[:12]


def root_filesystem(cache: Path, packages: Sequence[str]) -> Path:
    """The base's files as a tar, made first where the cache lacks it (a minute or three)."""
    made = cache / f"base-{digest(packages)}.tar"
    if made.exists():
        return made
    print(f"making a base of Debian {SUITE} with {', '.join(packages)}", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix=".base-") as scratch:
        output = Path(scratch) / "base.tar"
        # Its hooks talk on standard output, which is for the images.
        if subprocess.run([*_command(packages), str(output)], stdout=sys.stderr, check=False).returncode != 0:
            raise SystemExit("mmdebstrap made no base: its last lines say why (often the Debian mirror or a proxy)")
        os.replace(output, made)
    return made


def _command(packages: Sequence[str]) -> list[str]:
    return [
        "mmdebstrap",
        "--quiet",
        "--variant=essential",
        # /bin is a link from the start: what would make it one afterwards brings perl (50 MB).
        "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr",
        f"--include={','.join(packages)}",
        *(f"--dpkgopt={option}" for option in _DPKG),
        # This machine's; a pod gets its own.
        '--customize-hook=rm -f "$1/etc/resolv.conf" "$1/etc/hostname"',
        SUITE,
    ]
