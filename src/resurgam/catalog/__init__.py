"""What is known of backups: `catalog.py`, a cache that archives rebuild, and `state.py`, what nothing can rebuild."""
