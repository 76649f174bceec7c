"""HTTP plumbing: the protocol, bodies, answers and limits that all routes share."""
