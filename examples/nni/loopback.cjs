// NODE_OPTIONS="--require /path/to/loopback.cjs" nnictl create ...
// makes NNI's manager listen on this machine's loopback interface alone.
const { Server } = require("net");
const listen = Server.prototype.listen;
Server.prototype.listen = function (port, ...rest) {
  const bare = typeof port === "number" && typeof rest[0] !== "string";
  return listen.call(this, port, ...(bare ? ["127.0.0.1", ...rest] : rest));
};
