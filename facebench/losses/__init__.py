"""Losses: pure functions on arrays, one file per family.

A loss takes what a model returned and what the batch holds and gives one number per example, [B]
float32; the training loop takes the mean over the examples whose `mask` is 1. Nothing here knows a
model, a task or a config. Every function states shapes, units, its source, and what its gradient is
where the formula has none.
"""
