"""A certificate authority, the identities of Kubernetes' components, and kubeconfigs; by the openssl command."""

import base64
import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_DAYS = "3650"


@dataclass(frozen=True)
class KeyPair:
    certificate: Path
    key: Path


@dataclass(frozen=True)
class Authority:
    """Makes identities below one folder; what is there already is kept."""

    folder: Path

    @property
    def certificate(self) -> Path:
        return self._pair("ca").certificate

    def create(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not self.certificate.exists():
            usage = ["basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign"]
            self._request("ca", "/CN=slipway-dev", [word for each in usage for word in ("-addext", each)])

    def server(self, name: str, *, addresses: Sequence[str] = (), names: Sequence[str] = ()) -> KeyPair:
        """What a server shows its clients."""
        subjects = ",".join([*(f"IP:{address}" for address in addresses), *(f"DNS:{each}" for each in names)])
        return self._signed(name, f"/CN={name}", "serverAuth", ["-addext", f"subjectAltName={subjects}"])

    def client(self, user: str, *, groups: Sequence[str] = ()) -> KeyPair:
        """What a user of these groups shows the API server."""
        subject = "".join(f"/O={group}" for group in groups) + f"/CN={user}"
        return self._signed(user.replace(":", "-"), subject, "clientAuth", [])

    def signing_key(self, name: str) -> Path:
        """A private key alone, such as signs service accounts' tokens."""
        key = self._pair(name).key
        if not key.exists():
            # In the older of openssl's formats: from the newer one the API server derives no public key.
            _openssl(["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(key)])
        return key

    def kubeconfig(self, server: str, user: KeyPair, output: Path) -> Path:
        """Write a kubeconfig that holds all it needs; readable by its owner alone. JSON is YAML."""
        cluster = {"server": server, "certificate-authority-data": _encoded(self.certificate)}
        credentials = {
            "client-certificate-data": _encoded(user.certificate),
            "client-key-data": _encoded(user.key),
        }
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "slipway-dev",
            "clusters": [{"name": "slipway-dev", "cluster": cluster}],
            "users": [{"name": "user", "user": credentials}],
            "contexts": [{"name": "slipway-dev", "context": {"cluster": "slipway-dev", "user": "user"}}],
        }
        output.parent.mkdir(parents=True, exist_ok=True)
        output.touch(mode=0o600)
        output.write_text(json.dumps(config, indent=2) + "\n")
        return output

    def _pair(self, name: str) -> KeyPair:
        return KeyPair(self.folder / f"{name}.crt", self.folder / f"{name}.key")

    def _signed(self, name: str, subject: str, usage: str, extensions: list[str]) -> KeyPair:
        pair = self._pair(name)
        if not pair.certificate.exists():
            authority = self._pair("ca")
            signer = ["-CA", str(authority.certificate), "-CAkey", str(authority.key)]
            leaf = ["-addext", "basicConstraints=CA:FALSE", "-addext", f"extendedKeyUsage={usage}"]
            self._request(name, subject, [*signer, *leaf, *extensions])
        return pair

    def _request(self, name: str, subject: str, options: list[str]) -> None:
        pair = self._pair(name)
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", str(pair.key)]
        # An empty configuration: the system's adds extensions of its own.
        fixed = ["req", "-x509", "-config", "/dev/null", "-sha256", "-days", _DAYS]
        _openssl([*fixed, *key, "-subj", subject, "-out", str(pair.certificate), *options])


def _openssl(arguments: list[str]) -> None:
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"openssl {' '.join(arguments)}: {done.stderr.strip()}")


def _encoded(file: Path) -> str:
    return base64.b64encode(file.read_bytes()).decode()
