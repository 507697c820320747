"""The host on Faust: transport, tasks, commit, sink stage."""
