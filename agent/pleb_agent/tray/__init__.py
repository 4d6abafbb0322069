"""The tray: a thin restartable view that holds no state.

It follows agentd's events (`follower`), turns each status into a look (`look`, pure) and shows it:
on Linux as a StatusNotifierItem over D-Bus (`linux`, `item`), on Windows and macOS through
pystray (`pystray_tray`). Clicks go back by the control API (`agentd`).

At most 15 MB of memory are allowed on Linux and bare Python takes 9, so these modules import
almost nothing: no HTTP client (a socket does), no dataclasses, no pathlib, no msgspec.
"""
