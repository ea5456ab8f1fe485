"""The energy ledger: bytes, operations and millijoule at every split point, beside the published figures.

Three kinds of figures, never in one sum without a name that says so: measured (a meter of the machine), modelled
(operations times what one costs in a published table), assumed (the radio, and firing rates that nobody measured).
"""
