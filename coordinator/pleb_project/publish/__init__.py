"""Publishing a project, and everything else that its root key signs."""
