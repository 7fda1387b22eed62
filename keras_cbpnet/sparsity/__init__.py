"""Structured pruning of a trained backbone: groups of weights, how much each member matters, surgery."""
