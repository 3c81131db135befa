"""The images of a tar archive, one after the other: WebDataset keeps images so. Nothing is unpacked."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import PurePosixPath

from .images import image_endings, open_regular
from .storage import is_stored, open_stored

ENDING = ".tar"
_LARGEST = 100 * 2**20  # bytes of one image


def archived_images(path: str, start: int = 0) -> Iterator[tuple[str, bytes | str]]:
    """The name and content of each file with an image's ending, from number `start` on.

    Yields:
        the image's bytes or, of one that is too large, a sentence that says so.

    Raises:
        OSError for what is no archive, is damaged or cut off, after the images before the damage; ValueError for one without images.
    """
    endings, number = image_endings(), 0
    with open_stored(path) if is_stored(path) else open_regular(path) as file:
        try:
            with tarfile.open(fileobj=file, mode="r:") as archive:
                last = -1
                while (member := archive.next()) is not None:
                    if archive.offset <= last:  # a negative size, which some Pythons follow back for ever
                        raise tarfile.ReadError(f"the file at byte {member.offset} ends before it begins")
                    last = archive.offset
                    archive.members.clear()  # type: ignore[attr-defined]  # it would keep what it knows of each
                    if not member.isreg() or PurePosixPath(member.name).suffix.lower() not in endings:
                        continue
                    number += 1
                    if number <= start:
                        continue
                    if member.size > _LARGEST:
                        yield member.name, f"OSError: it is larger than {_LARGEST} bytes"
                        continue
                    content = archive.extractfile(member)
                    yield member.name, b"" if content is None else content.read()
                # tarfile takes a damaged header, or none, for the end.
                file.seek(archive.offset)
                if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                    raise tarfile.ReadError(
                        f"no file begins at byte {archive.offset}, and the archive does not end there"
                    )
        # The last three come of headers that were made to cause them.
        except (tarfile.TarError, ValueError, EOFError, OverflowError, RecursionError, MemoryError) as error:
            raise OSError(
                f"{path} is no tar archive, or damaged or cut off: {str(error) or type(error).__name__}"
            ) from error
    if not number:
        raise ValueError(f"{path} holds no image files")
