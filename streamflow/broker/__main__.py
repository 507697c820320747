"""`python -m streamflow.broker [--install]`: make this machine ready to run a broker.

Finds Java and fetches the jars, so that a later start needs no network. Exits with 2 and one
sentence where that cannot be done.
"""

import sys

from streamflow.broker import BrokerError, equip, say_to_stderr

try:
    java, jars = equip(install="--install" in sys.argv[1:], say=say_to_stderr)
except BrokerError as error:
    say_to_stderr(f"error: {error}")
    sys.exit(error.streamflow_exit_code)
say_to_stderr(f"ready: {java} and {jars}")
