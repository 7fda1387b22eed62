"""Keras callbacks for anybody's model: unit resets, and what is left of its plasticity."""
