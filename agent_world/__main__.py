"""``python -m agent_world``."""

from agent_world.cli.main import main

main()
