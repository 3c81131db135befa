"""The demo: a page in the browser (``python -m space.app``), and what is pushed to the Hub (``space.build``).

In the wheel this package is ``expclip_demo``.
"""
