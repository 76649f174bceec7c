"""What the service does: one function for each act, with its checks, its transaction and its audit entry.

Routes, the dashboard and the command line decode a request, call an operation and encode its result. Nothing here
depends on HTTP, and SQL stays in `storage`.
"""
