"""Training and evaluation of Exp-CLIP heads; the package ``expclip_training`` of the wheel.

Commands: ``embed``, ``train``, ``benchmark``. A new teacher goes into ``teachers/``, a layout of
data or a benchmark into ``data/layouts.py`` and ``evaluation/samples.py``, another loss into
``alignment/loss.py``, a field of recipes into ``recipe.py``.
"""
