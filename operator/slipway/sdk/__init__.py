"""The contract of a plugin: what an author imports. No torch and no numpy at run time."""

from slipway.api.artifacts import State
from slipway.api.errors import ArtifactError, PluginError
from slipway.sdk.artifact import Artifact, read_artifact, write_artifact
from slipway.sdk.manifest import Content, DatasetInfo, Manifest, ModuleSource, Provenance, TensorSpec
from slipway.sdk.plugin import Arrays, BrokenPlugin, Compression, Context, load_plugins

__all__ = [
    "Arrays",
    "Artifact",
    "ArtifactError",
    "BrokenPlugin",
    "Compression",
    "Content",
    "Context",
    "DatasetInfo",
    "Manifest",
    "ModuleSource",
    "PluginError",
    "Provenance",
    "State",
    "TensorSpec",
    "load_plugins",
    "read_artifact",
    "write_artifact",
]
