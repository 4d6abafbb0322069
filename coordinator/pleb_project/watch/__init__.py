"""Following a project's training from the researcher's PC."""
