"""What the service does, one function for each act: its checks, its transaction, and its entry in the audit log.

Routes, the dashboard and the command line decode what was asked for, call an operation and encode what it returns.
Nothing here knows HTTP, and SQL stays in `storage`.
"""
