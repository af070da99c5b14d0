"""Running an operation: once, recorded, whatever becomes of it."""
