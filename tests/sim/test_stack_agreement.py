from pathlib import Path

from agent_world.testing.stack import make_key, open_stack, specs
from agent_world.wire.action import RegisterAgent
from agent_world.wire.ids import U64, Name


async def test_all_agree(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, specs(validators=4, storage=1, observers=1)) as stack:
        await stack.start_all()
        key = make_key("alice")
        action_id = stack.submit(
            "o1", stack.authority, RegisterAgent(name=Name("alice"), public_key=key.public_key, registration_quota=U64(0))
        )
        receipt = await stack.receipt("o1", action_id)
        assert receipt["outcome"] == "applied"
        await stack.until_height(5)
