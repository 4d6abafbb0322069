"""Examples from files: CSV, arrays, images, JSON lines, in pieces and in bounded memory.

The researcher's tools read a project's data by it, and agents the data of their users.
"""
