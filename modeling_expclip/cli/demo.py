"""``expclip demo``: the page for photos, the camera and short videos. Its code is the package ``expclip_demo`` (``space/`` in a clone)."""

from __future__ import annotations

import argparse

_DESCRIPTION = "Serve a page for photos, the camera and short videos, with labels of your own, until Ctrl-C."
_ENVIRONMENT = """environment:
  EXPCLIP_MODEL        the checkpoint, where --model does not name it
  EXPCLIP_YUNET        the weights of the face detector YuNet (default: from the Hub; without it, MTCNN)
  GRADIO_SERVER_NAME   the address, where --host does not name it
  GRADIO_SERVER_PORT   the port, where --port does not name it"""


def add(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser(
        "demo",
        help="the demo: a page for photos, the camera and videos",
        description=_DESCRIPTION,
        epilog=_ENVIRONMENT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("--model", help="checkpoint folder or Hub id (default: the embedded expclip-mini)")
    command.add_argument("--host", help="address to listen on (default: 127.0.0.1, which only this machine reaches)")
    command.add_argument("--port", type=_port, help="port (default: the first free one from 7860)")
    command.set_defaults(run=run)


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port; it is a number up to 65535")
    return int(text)


def run(arguments: argparse.Namespace) -> int:
    try:
        from expclip_demo.page.start import start
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("expclip_demo."):  # ours, and so a broken installation and no missing package
            raise
        raise ImportError(f"{error.name} is not installed; in a clone, `python -m space.app` is the same") from error
    start(arguments.model, arguments.host, arguments.port)
    return 0
