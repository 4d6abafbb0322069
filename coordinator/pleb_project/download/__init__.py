"""Downloading the trained model."""
