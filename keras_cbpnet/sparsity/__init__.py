"""Smaller networks: groups of weights and how much each member matters, surgery; masks of weights and schedules."""
