"""Features of a task's images, computed once where nothing changes them."""
