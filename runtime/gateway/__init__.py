"""The data plane: HTTP workers that speak to clients and to the local rqlited, and the node's side of their channel.

Reading order: :mod:`frames` and :mod:`channel` (what node and worker tell each other), :mod:`doors` (the law of the data plane:
P30), :mod:`waiting` (queries in front of a door), :mod:`vetting` (which SQL may pass), :mod:`upstream` and :mod:`statements`
(rqlited's HTTP), :mod:`transactions` and :mod:`idempotency` (several statements, and writes that may be repeated), :mod:`queries` (a call on
its way), :mod:`app`, :mod:`endpoint` and :mod:`endpoints` (HTTP for clients), :mod:`worker` (the process), :mod:`host` (the node's side, on trio).

A worker is uvicorn on uvloop in its own process: the same in the trio node is eight times slower, and every query would
compete with heartbeats for one interpreter.
"""
