"""Run the command line as ``python -m neurocommand``."""

from neurocommand.cli import main

if __name__ == "__main__":
    main()
