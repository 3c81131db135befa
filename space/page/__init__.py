"""The page's parts. They import each other relatively.

In a clone the package is ``space.page``, installed ``expclip_demo.page``, and in a Space's own root ``page``.
"""
