"""Real libp2p hosts on a simulated transport in virtual time; one seed replays a run exactly."""
