"""Authentication and authorisation: keys, and the one place that checks them for every route."""
