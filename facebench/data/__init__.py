"""Data: prepared datasets, few-shot subsets, image transforms, the input pipeline, targets.

Nothing here imports JAX. `source` reads what ``facebench data prepare`` wrote, `subsets` says which
samples a regime may train on, `transforms` moves pixels and points by one matrix, `pipeline`
makes batches that are a function of (seed, step), and `targets` writes the labels the judge reads.
"""
