"""Decisions as functions of values: who may take what, what counts, when a version is made."""
