"""facebench: a JAX benchmark suite for facial analysis."""

__version__ = "0.1.0"
