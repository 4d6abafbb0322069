"""The command lines of programs that the tray starts and that outlive it."""

from __future__ import annotations

__all__ = ["agent_command", "browser_command"]


def agent_command(home: str) -> list[str]:
    """Return the command line that starts this home's agent."""
    from pleb_agent.program.command import module_command  # brings pathlib: 1 MB

    return [*module_command("pleb_agent.cli"), "start", "--home", home]


def browser_command(url: str, platform: str) -> list[str]:
    """Return the command line that opens the user's browser."""
    match platform:
        case "darwin":
            return ["open", url]
        case "win32":
            return ["rundll32", "url.dll,FileProtocolHandler", url]
        case _:
            return ["xdg-open", url]
