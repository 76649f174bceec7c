"""What the client and the server share: formats, filters, arithmetic, and the safe writing of files (`files`).

Stores no secret: the arithmetic gets moduli, factors and tables as arguments. Only `files` does input or output.
"""
