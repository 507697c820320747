"""Looks at the states of an app's tasks, and settles where they go on, while no worker runs."""
