"""The repository: every distinct chunk once, encrypted (docs/repository-format.md, docs/ordering.md 41 to 64)."""
