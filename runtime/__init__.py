"""The world of real machines: trio, rqlited, HTTP. It feeds the protocol its inputs and carries its effects out."""

__version__ = "0.1.0"
