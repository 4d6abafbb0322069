"""A small process that watches for the user's input and tells agentd by lines on its output.

It is a process of its own because what it asks (an X server, a compositor, a bus) may hang or
take it along when it ends. It imports little: it should stay under 14 MB.
"""
