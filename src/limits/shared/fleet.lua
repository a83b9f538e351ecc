-- Counts the gateways that have said within three seconds that they are there, this one among them. Does
-- before what the other script does, so that a server that would refuse it is not taken for a good one.
-- KEYS: where the gateways are kept, and any key. ARGV: this gateway's name.
redis.call('SET', KEYS[2], ARGV[1], 'PX', 1000)
redis.call('GET', KEYS[2])
local now = tonumber(redis.call('TIME')[1])
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - 4)
redis.call('EXPIRE', KEYS[1], 60)
return redis.call('ZCARD', KEYS[1])
