"""The main job on a real cluster: train, compress, evaluate, serve and query the handwritten digits."""
