"""Starts the page: ``python -m space.app`` in a clone, ``python app.py`` in a Space's own root."""

from __future__ import annotations

import argparse

_HELP = """environment:
  EXPCLIP_MODEL        checkpoint folder or Hub id (default: the embedded expclip-mini)
  EXPCLIP_YUNET        the weights of the face detector YuNet (default: from the Hub; without it, MTCNN)
  GRADIO_SERVER_NAME   address to listen on (default: 127.0.0.1)
  GRADIO_SERVER_PORT   port (default: the first free one from 7860)"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Exp-CLIP in the browser.", epilog=_HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args()
    # Only now, because this takes seconds and --help should not.
    if __package__:
        from .page.start import start
    else:
        from page.start import start
    try:
        start()
    except (OSError, ValueError, ImportError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
