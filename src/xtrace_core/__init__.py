"""What the client and the server share: formats, filters, arithmetic, and the safe writing of files (`files`).

Stores no secret: moduli, factors and tables are arguments of the arithmetic. Beside `files` nothing does input or
output.
"""
