"""What operators can do, as commands that return values: the CLI and HTTPS are two ways to them."""
