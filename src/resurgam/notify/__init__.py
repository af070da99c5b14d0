"""Telling people: messages by apprise, and a dead man's switch. What fails here is told of, and fails nothing."""
