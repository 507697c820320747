"""What goes wrong around the local broker, in one sentence for the person at the terminal."""


class BrokerError(Exception):
    """No local Kafka can be had; the message says why and what to do about it."""

    streamflow_exit_code = 2
