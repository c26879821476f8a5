"""The deterministic simulator: the very engine of the real node, in a modelled world, from one seed."""
