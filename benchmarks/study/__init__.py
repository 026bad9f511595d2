"""Parts of `benchmarks/instrument.py`: worlds in memory, learners, tracks and knobs."""
