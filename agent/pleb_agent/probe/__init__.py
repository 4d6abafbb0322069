"""A small process that watches for the user's input and reports to agentd by lines on its output.

It is a process of its own because what it asks (an X server, a compositor, a bus) may hang, or
end the process that uses it. It imports little: it should stay under 14 MB.
"""
