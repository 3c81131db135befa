"""`.pth` files of anyone: read as data, never run as code."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from ..system.terminal import reason_of


def read_pth(path: Path) -> Any:
    """What a `.pth` file holds, on the CPU. Nothing pickled is executed.

    Raises:
        ValueError: the file is damaged, holds pickled code, or tensors larger than itself.
    """
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                unpacked = sum(entry.file_size for entry in archive.infolist())
            if unpacked > path.stat().st_size:  # torch packs nothing, but would unpack it
                raise ValueError(f"it unpacks to {unpacked:,} bytes, more than the file has")
        content = torch.load(path, map_location="cpu", weights_only=True)  # noqa: TID251, here
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} is refused: it is not a plain state dict (it holds pickled code, or is damaged)"
        ) from error
    except Exception as error:  # damaged files make torch raise a dozen kinds
        raise ValueError(f"{path} cannot be read as a .pth file, it may be cut off: {reason_of(error)}") from error
    _check_tensors(path, content)
    return content


def _check_tensors(path: Path, content: Any) -> None:
    """Raises ValueError for a tensor that is no plain array of numbers, or of more numbers than the file holds for it.

    A stride of 0 repeats a number for ever: 1.5 KB then become terabytes in whatever copies the tensor.
    """
    left, seen = [content], set()
    while left:  # not by recursion, for lists may lie as deep as the file is long
        value = left.pop()
        if isinstance(value, (dict, list, tuple)) and id(value) not in seen:
            seen.add(id(value))
            left += value.values() if isinstance(value, dict) else value
        elif isinstance(value, torch.Tensor):
            plain = value.layout == torch.strided and not value.is_nested and not value.is_quantized
            if not plain or value.device.type != "cpu":
                raise ValueError(
                    f"{path} holds a tensor that is no plain array of numbers but sparse, quantised, nested or without values"
                )
            needed, held = value.numel() * value.element_size(), value.untyped_storage().nbytes()
            if needed > held or held > path.stat().st_size:
                raise ValueError(
                    f"{path} is refused: a tensor of shape {tuple(value.shape)} is {needed:,} bytes, but the file holds "
                    f"{min(held, path.stat().st_size):,} for it"
                )
