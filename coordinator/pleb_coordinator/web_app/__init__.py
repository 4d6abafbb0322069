"""The HTTP process: the protocol's routes and the pages for people, in one event loop."""
