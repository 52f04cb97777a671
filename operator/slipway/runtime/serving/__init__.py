"""Files of a packed repository, which run in Triton's pod without Slipway."""
