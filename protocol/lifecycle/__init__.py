"""The phases of a database's life, one file each. Each handler takes the turn (``protocol.turn``) and what the input named."""
