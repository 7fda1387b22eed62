"""What other programs leave in folders of images: thumbnails, indexes, copies, bins."""

from __future__ import annotations

__all__ = ["is_litter"]

# Names in lower case; what begins with a dot (.DS_Store, ._photo.jpg, .thumbnails, .Trash-1000) is passed over anyway.
FILES = frozenset(
    {
        "desktop.ini",  # Windows
        "ehthumbs.db",
        "ehthumbs_vista.db",
        "thumbs.db",
        "icon\r",  # macOS: a folder's icon, as it is written and as it comes through SMB
        "icon\uf00d",
        "picasa.ini",
        "sync.ffs_lock",  # FreeFileSync
        "zbthumbnail.info",  # Zoner
    }
)
SUFFIXES = ("~", ".bak", ".orig", ".aae", ".xmp", ".lnk")  # copies of what was edited, and what was done to photos
FOLDERS = frozenset(
    {
        "$recycle.bin",  # Windows
        "recycler",
        "system volume information",
        "@eadir",  # Synology: a thumbnail of every photo
        "#recycle",
        "#snapshot",
        "@synoresource",
        "@__thumb",  # QNAP
        "@recycle",
        "@recently-snapshot",
        "__macosx",  # macOS: the other half of each file of an archive
        "network trash folder",
        "temporary items",
        "lost+found",  # Linux
        "lost.dir",  # Android
        "_vti_cnf",  # FrontPage
        "__pycache__",
    }
)


def is_litter(name: str, folder: bool) -> bool:
    """Return whether a file or `folder` of this name belongs to another program and holds no image of the user's."""
    low = name.lower()
    if name.startswith(".") or (folder and low in FOLDERS):
        return True
    return not folder and (low in FILES or low.endswith(SUFFIXES))
