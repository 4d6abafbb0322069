"""What agentd's faces (page, tray, command line) can see and do: `StatusReader`, `Controller`."""
