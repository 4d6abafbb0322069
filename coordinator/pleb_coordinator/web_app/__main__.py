"""`python -m pleb_coordinator.web_app`: the HTTP process, which `serve` starts."""

from __future__ import annotations

import argparse
import contextlib
import logging
import socket
import sys
from pathlib import Path

from pleb_coordinator.api.links import LinkBase
from pleb_coordinator.api.metrics_server import MetricsServer
from pleb_coordinator.home.config import read_config
from pleb_coordinator.home.layout import Home
from pleb_coordinator.web_app.app import build_app, shifted_clock
from pleb_coordinator.web_app.server import run_server
from pleb_shared.errors import PlebError
from pleb_system.ready import ReadySignal, add_ready_option


def main() -> int:
    """Serve until stopped."""
    options = _parser().parse_args()
    home = Home(options.home)
    try:
        config = read_config(home.config_file)
        home.start_log("http", most_bytes=config.log_bytes, debug=options.debug)
        links = LinkBase(options.url, options.pin)
        web = build_app(home, config, links, shifted_clock(options.clock_offset))
    except PlebError as error:
        print(f"pleb-coordinator http: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    listening = socket.socket(fileno=options.socket)
    files = (home.tls / "certificate.pem", home.tls / "key.pem") if options.pin else None
    logging.getLogger(__name__).info("The HTTP process listens", extra={"url": options.url})
    try:
        with contextlib.ExitStack() as stack:
            if config.metrics.port:
                place = (config.metrics.host, config.metrics.port)
                stack.enter_context(MetricsServer(place, web.metrics_lines, web.fault))
            run_server(web, listening, files, ReadySignal(options.ready_to))
    except PlebError as error:
        print(f"pleb-coordinator http: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    finally:
        web.close()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pleb_coordinator.web_app")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--socket", type=int, required=True, help="descriptor to listen on")
    parser.add_argument("--url", required=True, help="the address in attach links")
    parser.add_argument("--pin", help="SHA-256 of the certificate; turns TLS on")
    parser.add_argument("--clock-offset", type=float, default=0.0)
    parser.add_argument("--debug", action="store_true")
    add_ready_option(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
