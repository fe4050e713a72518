"""Pages of the site that are made while it is built: the commands from the command line itself, and the model card."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = {"../MODEL_CARD.md": "model-card.md", "../README.md": "index.md"}  # as docs/ links to them → on the site


def commands() -> str:
    """Every command with its help, as `diffsal COMMAND --help` prints it."""
    import typer
    from typer.main import get_command

    from diffsal.cli.commands import application

    group = get_command(application())
    context = typer.Context(group, info_name="diffsal")
    pages = ["# Commands\n\nEach as `diffsal COMMAND --help` prints it. Exit codes: 0 everything done; 1 an input or an output was at "
             "fault, and one line says which; 2 the command line was wrong.\n"]
    for name in sorted(group.list_commands(context)):
        command = group.get_command(context, name)
        with typer.Context(command, info_name=name, parent=context) as inner:
            pages.append(f"## {name}\n\n```text\n{command.get_help(inner)}\n```\n")
    return "\n".join(pages)


def on_files(files, config):
    """Add the generated pages."""
    from mkdocs.structure.files import File

    card = re.sub(r"\]\(docs/", "](", (ROOT / "MODEL_CARD.md").read_text())
    for name, content in (("commands.md", commands()), ("model-card.md", card)):
        files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown, page, config, files):
    """Links out of docs/ go to the site's own page, or show the path in the repository."""
    for inside, there in PAGES.items():
        markdown = markdown.replace(f"]({inside}", f"]({there}")
    return re.sub(r"\[([^\]]+)\]\(\.\./[^)]*\)", r"\1", markdown)
