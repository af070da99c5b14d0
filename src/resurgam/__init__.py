"""Resurgam: backups of PostgreSQL applications that prove they can be restored."""

__version__ = "0.1.0"
