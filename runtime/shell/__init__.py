"""``torpor sql``, ``export`` and ``import``: a database for a person at a terminal, and for a script. All of it goes through a gateway, with a
key, as any client's work does.
"""
