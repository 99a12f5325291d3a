"""What NNI 3.0 needs on today's machines, each cure with its reason.

What needed no code but a way around stands where it is walked: wrong parameters at several
trials at once (:mod:`nas_plugins.nni.metric`), ids that start again on resume
(:mod:`nas_plugins.nni.tuner`), checkpoints that ``torch.load`` refuses and models that the
engine forgets (:mod:`nas_plugins.nni.strategy`), the order in which one-shot strategies have
to be imported (:mod:`nas_plugins.nni.one_shot`).
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["write_loopback"]

# NNI's manager listens on every interface, without a password, and has no option for it
# (nni_node/rest_server/index.js calls listen(port)). Can go once NNI takes an address.
_LOOPBACK = """\
// NODE_OPTIONS="--require /path/to/loopback.cjs" nnictl create ...
// makes NNI's manager listen on this machine's loopback interface alone.
const { Server } = require("net");
const listen = Server.prototype.listen;
Server.prototype.listen = function (port, ...rest) {
  const bare = typeof port === "number" && typeof rest[0] !== "string";
  return listen.call(this, port, ...(bare ? ["127.0.0.1", ...rest] : rest));
};
"""


def write_loopback(directory: Path) -> Path:
    """Write the file that keeps NNI's manager on the loopback interface.

    Args:
        directory: Where ``loopback.cjs`` is written.

    Returns:
        Its path, for ``NODE_OPTIONS="--require <path>"`` in the environment of ``nnictl``.
    """
    path = directory / "loopback.cjs"
    path.write_text(_LOOPBACK, encoding="utf-8")
    return path
