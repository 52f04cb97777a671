"""A real single-node Kubernetes on a bare Debian machine, for development, end-to-end tests and CI."""
