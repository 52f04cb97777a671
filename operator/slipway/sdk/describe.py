"""A plugin's CompressionPlugin object, from the plugin's own code: what `slipway plugin manifest` prints."""

from __future__ import annotations

from typing import Any

from slipway.api.compressionplugin import CompressionPluginSpec, PluginNeeds
from slipway.api.kinds import COMPRESSION_PLUGIN
from slipway.sdk.plugin import Compression


def plugin_manifest(plugin: Compression[Any], image: str | None = None) -> dict[str, Any]:
    """The object to apply to a cluster. image: the one that holds the plugin; None for the operator's runtime image.

    Raises pydantic.ValidationError where the plugin says something that a CompressionPlugin cannot hold.
    """
    spec = CompressionPluginSpec.model_validate(
        {
            "version": plugin.version,
            "description": plugin.description,
            "entryPoint": plugin.name,
            "image": image,
            "consumes": plugin.consumes.value,
            "produces": plugin.produces.value,
            "conversion": plugin.conversion,
            "needs": PluginNeeds(data=plugin.needs_data),
            "parameters": plugin.params.model_json_schema(),
        }
    )
    return {
        "apiVersion": COMPRESSION_PLUGIN.api_version,
        "kind": COMPRESSION_PLUGIN.kind,
        "metadata": {"name": plugin.name},
        "spec": spec.to_wire(),
    }
