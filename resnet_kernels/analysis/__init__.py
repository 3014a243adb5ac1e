"""Analyses of trained networks: layer responses, error curves, and the degradation experiment."""
