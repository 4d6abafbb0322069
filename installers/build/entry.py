"""What PyInstaller's binary runs."""

from pleb_agent.program.frozen import main

main()
