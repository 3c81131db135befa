"""expclip-mini: a small CLIP trained from scratch on FER2013, so that everything here runs with no network.

Faces and their labels come in; each label becomes captions that also speak of light, tilt, zoom, focus and grain;
what leaves is a complete Exp-CLIP checkpoint. ``python -m training.mini --help`` is the whole interface.
"""
