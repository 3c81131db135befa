"""The page's parts. They import each other relatively.

In a clone the package is ``space.page``, installed it is ``expclip_demo.page``, in a Space's root ``page``.
"""
