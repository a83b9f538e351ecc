// The suite's backend listens on every address; loaded before it, this leaves it the loopback alone.
import net from 'node:net'

const { listen } = net.Server.prototype
net.Server.prototype.listen = function (port, ...rest) {
  return listen.call(this, port, '127.0.0.1', ...rest)
}
