"""`python -m bouncer`: the command line."""

from bouncer.cli.app import main

main(prog_name="python -m bouncer")
