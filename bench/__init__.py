"""Measurements of whole commands, side by side with what people would run instead (`make bench`)."""
