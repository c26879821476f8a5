"""``python -m runtime.bench``: what the node costs, measured on real processes of this machine, with the objective of each figure beside it
(R63). Law: whatever a bench starts, it ends, however it ends itself.

Reading order: :mod:`figures` (the one form in which all are told), :mod:`cluster` (the nodes that are measured), then a bench each: :mod:`lifecycle`
with :mod:`messages`, :mod:`thousand`, :mod:`hop`.
"""
