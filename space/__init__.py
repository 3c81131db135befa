"""The Space: Exp-CLIP in the browser (``python -m space.app``), and ``space.build``, which assembles what is pushed to the Hub."""
