"""The HTTP API: parses, asks the service, and answers in the manual's shapes."""

from resurgam.api.router import create_backup_router

__all__ = ["create_backup_router"]
