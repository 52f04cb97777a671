"""Builds the Dockerfile's images without an engine or a registry: by buildah, on a base of Debian's own packages."""
