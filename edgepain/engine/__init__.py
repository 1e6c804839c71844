"""A bundle becomes something that answers."""
