"""The pretraining of a backbone: from labels, and from a teacher."""
