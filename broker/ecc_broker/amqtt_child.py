"""amqtt as a broker in a process of its own: `python -m ecc_broker.amqtt_child PORT`, where Mosquitto is missing.

MQTT 3.1.1 only, on loopback only; it keeps nothing when it ends.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys

from ecc_broker.mosquitto import HOST
from ecc_model.optional import require


async def serve(port: int) -> None:
    """Run a broker on `port` of this machine until SIGTERM or SIGINT."""
    broker_module = require("amqtt.broker", "the broker")
    for number in (signal.SIGTERM, signal.SIGINT):
        # amqtt's own shutdown can wait for ever for its clients; there is nothing to save
        asyncio.get_running_loop().add_signal_handler(number, os._exit, 0)
    broker = broker_module.Broker(
        {
            "listeners": {"default": {"type": "tcp", "bind": f"{HOST}:{port}"}},
            "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
        }
    )
    await broker.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR, format="%(asctime)s %(levelname)s %(message)s")
    asyncio.run(serve(int(sys.argv[1])))
