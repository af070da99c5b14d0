"""Keys of a repository: made, derived, wrapped, and proven to be recoverable (docs/repository-format.md, Keys)."""
