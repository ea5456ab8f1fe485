"""Mosquitto's configuration: one broker for one machine, bounded in memory, reachable from nowhere else."""

from __future__ import annotations

import os
import pwd
import shutil
from pathlib import Path

from ecc_broker import topics
from ecc_broker.link import DEFAULT_WINDOW

HOST = "127.0.0.1"
# Debian puts it where only root's PATH looks
_SBIN = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin")

_CONFIG = f"""\
# written by ecc-broker at each start
listener {{port}} {HOST}
allow_anonymous true
set_tcp_nodelay true

persistence true
persistence_location {{data_dir}}/
autosave_interval 30

max_inflight_messages {DEFAULT_WINDOW}
max_queued_messages 1000
max_queued_bytes {64 * 1024 * 1024}
message_size_limit {topics.MAX_PAYLOAD_BYTES}
max_packet_size {topics.MAX_PAYLOAD_BYTES + 1024}
memory_limit {512 * 1024 * 1024}

sys_interval 0
connection_messages false
log_dest stderr
log_type error
log_type warning
user {{user}}
"""


def find_mosquitto() -> str | None:
    """Path of the program, None if it is not installed."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path=os.pathsep.join(_SBIN))


def config(port: int, data_dir: Path) -> str:
    """The configuration file's text. It names the present user, or Mosquitto would leave root for another one,
    who may not write to `data_dir`."""
    return _CONFIG.format(port=port, data_dir=data_dir.absolute(), user=pwd.getpwuid(os.geteuid()).pw_name)
