"""Sentences, numbers and dates in the user's language, for the page, the tray and notifications.

English is in the code; `XX.po` has each other language. To add one, run `python -m
tools.update_catalogues XX`, translate the new file, and add the language to `core.languages` and
its way of writing numbers and dates to `formats.FORMATS`.
"""
