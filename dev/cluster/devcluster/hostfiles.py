"""Containers without images of their own: they see the host's programs, libraries and /opt/slipway, read-only.

The mounts belong to a runtime handler, not to the pods: a pod's spec stays as in production, and a namespace that
enforces the `restricted` profile, which refuses hostPath volumes, admits it.
"""

import json
import subprocess

# The handler's name in containerd, and the RuntimeClass's in manifests/host-files.yaml.
HANDLER = "slipway-host-files"
# /bin, /sbin, /lib and /lib64 are links into /usr in the images.
_SHARED = ("/usr", "/opt/slipway", "/etc/ssl", "/etc/alternatives", "/etc/ld.so.cache")


def base_specification() -> str:
    """The OCI specification that containerd starts from: its default one and the mounts, as JSON."""
    default = subprocess.run(["ctr", "oci", "spec"], capture_output=True, text=True, check=True).stdout
    specification = json.loads(default)
    specification["mounts"] += [
        {"destination": path, "source": path, "type": "bind", "options": ["rbind", "ro", "nosuid", "nodev"]}
        for path in _SHARED
    ]
    # containerd's own limits; the default's 1,024 open files are too few for a server.
    specification["process"].pop("rlimits", None)
    return json.dumps(specification, indent=2)
