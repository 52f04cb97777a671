"""Slipway: train with torchrun, make small, serve with Triton, on Kubernetes."""
