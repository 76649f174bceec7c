"""Who is asking, and what they may do: keys, and the one place that checks them for every route."""
