"""Samples in, decisions out."""
