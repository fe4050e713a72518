"""The command `web`: the page without installation, served on this computer or written for a static host."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def web(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Where to listen; 0: any free port.")] = 8000,
    browser: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in the browser.")] = True,
    export: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the page's files for a static host, and end.")
    ] = None,
) -> None:
    """Show the page that predicts in the browser; nothing leaves this computer."""
    from diffsal.web.server import export_page, page_server

    if export is not None:
        export_page(export)
        print(f"{export}: the page and its weights; put them on any static host")
        return
    with page_server(port) as server:
        address = f"http://localhost:{server.server_address[1]}/"
        print(f"{address}  (Ctrl-C ends)", flush=True)
        if browser:
            import webbrowser

            webbrowser.open(address)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return
