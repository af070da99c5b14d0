"""What a user asks for, each readable as a procedure; nothing here prints or reads the environment."""
