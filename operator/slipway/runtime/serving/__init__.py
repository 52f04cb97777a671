"""Files that travel inside a packed repository and run where Slipway is not installed: Triton's pod."""
