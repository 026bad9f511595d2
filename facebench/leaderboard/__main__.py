"""``python -m facebench.leaderboard``: the same as ``facebench leaderboard``."""

if __name__ == "__main__":
    import sys

    from facebench.cli import main

    sys.exit(main(["leaderboard", *sys.argv[1:]]))
