"""`python -m blendserve` is the `blendserve` command."""

from blendserve.cli import main

if __name__ == "__main__":
    main()
