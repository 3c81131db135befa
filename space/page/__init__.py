"""The page's parts. They import each other relatively: here the package is ``space.page``, in a Space's own root ``page``."""
