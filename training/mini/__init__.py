"""expclip-mini: a small CLIP trained from scratch on faces with votes, so that everything here runs with no network.

Faces and their vote shares come in; captions follow the shares and also speak of light, tilt, zoom, focus and grain;
what leaves is a complete Exp-CLIP checkpoint. ``python -m training.mini --help`` is the whole interface. The embedded
model is still that of 0.1, which learned from FER2013's labels with the code of its time.
"""
