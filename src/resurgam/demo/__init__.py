"""A throw-away PostgreSQL, a sample application in it, and the walk-through of `resurgam demo`."""
