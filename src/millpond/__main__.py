"""``python -m millpond`` is the command line."""

from millpond.client.cli import main

if __name__ == "__main__":
    main()
