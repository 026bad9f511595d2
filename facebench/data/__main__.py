"""``python -m facebench.data``: the same as ``facebench data``."""

if __name__ == "__main__":
    import sys

    from facebench.cli import main

    sys.exit(main(["data", *sys.argv[1:]]))
