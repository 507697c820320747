"""The app of the flights, where it reads letters instead: source and tables have left together."""

from streamflow import Topology, source, topic
from topologies.flights import Flight
from topologies.flights import topology as flights

letters = source(topic("letters"), Flight, event_time="time_hour", key="origin")
topology = Topology(flights.name, letters.to(topic("out")), letters.rejected.to(topic("not-read")))
