"""The pure protocol engine: ``node.step(input) -> effects``. Reads no clock, socket, file or random number."""
