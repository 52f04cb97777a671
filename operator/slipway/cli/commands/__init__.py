"""The subcommands of `slipway`, a module each."""
