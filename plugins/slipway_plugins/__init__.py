"""The compression plugins that Slipway ships, one module each."""
