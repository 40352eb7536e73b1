from __future__ import annotations

import gc
import socket
import warnings
from pathlib import Path

import pytest

from agent_world.cli.client import CONTROL_SOCKET, NodeClient
from agent_world.errors import Unavailable, UsageError
from agent_world.store.socket_path import socket_address


def test_the_socket_of_a_killed_node_is_named_and_no_socket_stays_open(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as killed:
        killed.bind(socket_address(tmp_path / CONTROL_SOCKET))
    with warnings.catch_warnings(record=True) as seen, NodeClient(tmp_path) as client:
        warnings.simplefilter("always")
        with pytest.raises(Unavailable, match="no node is running"):
            client.get("/status")
        gc.collect()
    assert [str(warning.message) for warning in seen if warning.category is ResourceWarning] == []


def test_a_home_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a directory"):
        NodeClient(tmp_path / "none")
