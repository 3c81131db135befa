"""YAML that anyone may have written: values only, in the size that they have in the file, each key once.

For recipes, and for the metadata at the head of a card.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import yaml
from huggingface_hub.repocard import REGEX_YAML_BLOCK

# PyYAML lets the errors of its own scalars through: of "!!bool x" a KeyError, of "2001-99-99" a ValueError, and so on.
_NO_YAML = (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, RecursionError)


def read_yaml(text: str) -> Any:
    """The one document in ``text``. Raises ValueError, in one line, for what is not YAML, or holds an alias or a key twice."""
    try:
        loader = _Loader(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except _NO_YAML as error:
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error


def read_front_matter(text: str) -> dict[str, Any]:
    """The metadata at the head of a card, as the Hub finds it; empty where there is none. Raises ValueError as ``read_yaml`` does."""
    block = REGEX_YAML_BLOCK.search(text)
    metadata = read_yaml(block.group(2)) if block else None
    if not isinstance(metadata, (dict, type(None))):
        raise ValueError(f"expected a mapping, got a {type(metadata).__name__}")
    return metadata or {}


class _Loader(yaml.SafeLoader):
    """YAML without aliases, with which a short file becomes gigabytes, and without repeated keys, of which one would be passed over."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.composer.ComposerError(
                None, None, f"the alias *{event.anchor} is not read; write the value out", event.start_mark
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        names = Counter(key.value for key, _ in pairs if isinstance(key, yaml.ScalarNode))
        for name, count in names.items():
            if count > 1:
                raise yaml.constructor.ConstructorError(None, None, f"the key {name!r} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)
