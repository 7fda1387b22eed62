"""What computes: the interpreters, NumPy, and how one of them is found."""
