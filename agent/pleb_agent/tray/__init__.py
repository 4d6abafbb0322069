"""The tray: a thin restartable view that holds no state."""
