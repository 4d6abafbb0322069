"""The agent's places in the user's session: autostart, links, browser, notifications."""
