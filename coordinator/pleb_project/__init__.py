"""The researcher's side: define, check, try, publish and follow a project."""
