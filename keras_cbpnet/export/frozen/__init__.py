"""One ordinary classifier of a bundle's two files and what a device learned: nothing in it learns any more."""
