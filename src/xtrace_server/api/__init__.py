"""The routes of the HTTP contract. A route decodes, asks the guard, calls storage or search, and encodes; no
SQL.
"""
