"""The main job on a real cluster: train, compress, prove, serve and ask the handwritten digits."""
