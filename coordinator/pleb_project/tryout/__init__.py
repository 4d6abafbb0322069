"""`pleb-project try`: a throw-away coordinator and an agent on this PC, a few versions."""
