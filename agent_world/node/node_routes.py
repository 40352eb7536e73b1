"""Routes of the control API that only a running node has."""

from __future__ import annotations

from starlette.routing import Route

from agent_world.node.archive_control import ArchiveRoutes
from agent_world.node.blob_control import BlobRoutes
from agent_world.node.blob_views import BlobControl
from agent_world.node.challenge_control import ChallengeRoutes
from agent_world.node.fs_control import FsRoutes
from agent_world.node.node import Node
from agent_world.node.provide_control import ProvideRoutes
from agent_world.node.replica_control import ReplicaRoutes
from agent_world.node.replication_control import ReplicationRoutes
from agent_world.node.store_control import StoreRoutes


def node_routes(node: Node) -> list[Route]:
    """All of them, for ``control.serve_control``."""
    return [
        *ArchiveRoutes(node.archives).routes(),
        *BlobRoutes(BlobControl(node)).routes(),
        *StoreRoutes(node.pinning, node.collecting).routes(),
        *FsRoutes(node.files, node.unixfs).routes(),
        *ReplicationRoutes(node.replication).routes(),
        *ChallengeRoutes(node.challenges).routes(),
        *ReplicaRoutes(node.replicas).routes(),
        *ProvideRoutes(node.discovery, node.client, node.sources, node.clock).routes(),
    ]
