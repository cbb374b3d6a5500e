"""`python -m dnsvip`."""

from dnsvip.cli import main

main()
