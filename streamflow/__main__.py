"""`python -m streamflow` is the `streamflow` command."""

from streamflow.cli import main

main()
