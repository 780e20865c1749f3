"""`python -m phonofilm`: the command line, also where its script is not on the path."""

from phonofilm.cli.start import main

if __name__ == "__main__":
    main()
